"""Prompts about everyday subjects, from a seeded grammar: a corpus for fitting maps between encoders.

A prompt has an opening, a subject that does something somewhere, details, light, and a way in which the picture is made, in
one of several orders, so that few prompts begin alike: encoders are causal, and a beginning that two prompts share is one
pair of tokens and not two. The texts are this project's own (CC0).
"""

from collections.abc import Sequence

from graftwork.scenes.world import choose, draw_number

_SUBJECTS = {
    "people": (
        "an old woman with a grey braid",
        "a young baker in a floury apron",
        "two brothers in matching raincoats",
        "a tired bus driver",
        "a girl with a missing front tooth",
        "a gardener with muddy boots",
        "a street musician in a long coat",
        "a nurse after a night shift",
        "a carpenter with a pencil behind his ear",
        "three students with heavy backpacks",
        "a father carrying a sleeping child",
        "a chess player in a woollen cap",
        "a potter with clay up to her elbows",
        "a fisherman in a yellow oilskin",
        "a librarian with round glasses",
    ),
    "animals": (
        "a ginger cat with one torn ear",
        "a wet dog the size of a calf",
        "a flock of sparrows",
        "a donkey with a straw hat",
        "two swans and their grey young",
        "a hedgehog no bigger than a fist",
        "a brown cow with a bell",
        "an owl with half-closed eyes",
        "a horse with a white blaze",
        "a squirrel holding a walnut",
        "a tortoise with a chipped shell",
        "a family of ducks",
    ),
    "things": (
        "a bicycle with a wicker basket",
        "a kettle on a gas flame",
        "a typewriter with a jammed ribbon",
        "a bowl of blackberries",
        "a pair of red rubber boots",
        "an open suitcase full of letters",
        "a violin without strings",
        "a loaf of rye bread on a board",
        "a broken umbrella",
        "a ladder splashed with paint",
        "a globe with a dented ocean",
        "a wooden rocking horse",
        "a stack of enamel plates",
        "a sewing machine with a half-finished dress",
        "a lantern with a cracked pane",
    ),
    "vehicles": (
        "a tram with fogged windows",
        "a small blue tractor",
        "a rowing boat full of apples",
        "a delivery van with an open door",
        "a steam locomotive",
        "a caravan painted with stars",
        "a fire engine from the fifties",
    ),
}
_ACTIONS = {
    "people": (
        "waits for the last ferry",
        "peels potatoes into a bucket",
        "reads a letter for the second time",
        "feeds pigeons from a paper bag",
        "repairs a wooden chair",
        "hangs up laundry in the wind",
        "laughs at something outside the frame",
        "counts coins on a marble table",
        "carries a mirror up the stairs",
        "pours tea without looking",
        "points at a map that nobody else can see",
        "sweeps leaves into a crooked heap",
    ),
    "animals": (
        "sleeps on a folded blanket",
        "drinks from a puddle",
        "looks straight into the lens",
        "hides under a bench",
        "follows a trail of crumbs",
        "waits at a closed gate",
        "shakes water in all directions",
        "crosses the road in no hurry",
    ),
    "things": (
        "stands forgotten in a corner",
        "leans against a whitewashed wall",
        "lies between scattered papers",
        "gathers dust on a shelf",
        "is tied up with green string",
        "has been left out in the rain",
        "catches the last of the sun",
        "waits on the doorstep",
    ),
    "vehicles": (
        "stops where the rails end",
        "is parked under a chestnut tree",
        "climbs a steep lane",
        "rusts behind a barn",
        "is loaded by two men",
        "leaves tracks in the wet sand",
    ),
}
_PLACES = (
    "in a narrow kitchen with green tiles",
    "on the platform of a country station",
    "at the edge of a frozen pond",
    "in front of a shuttered bakery",
    "beside a canal lined with willows",
    "on the roof of a parking garage",
    "in a greenhouse full of tomato plants",
    "under the arches of a stone bridge",
    "in the waiting room of a village doctor",
    "on a beach strewn with driftwood",
    "between the stalls of a fish market",
    "in an attic with a single round window",
    "at a crossroads between two wheat fields",
    "in the courtyard of an old school",
    "on the steps of a closed theatre",
    "in a workshop that smells of varnish",
    "behind a row of beehives",
    "at the foot of a lighthouse",
    "in a laundrette with flickering lamps",
    "on a hillside terraced with vines",
    "at the counter of a hardware shop",
    "in a hallway with a checkered floor",
    "beneath a clock that has stopped at four",
    "near a playground after the rain",
    "on a wooden jetty with missing planks",
    "in a library with ladders on rails",
)
_DETAILS = (
    "a radio plays on the windowsill",
    "steam rises from a grate in the pavement",
    "a paper kite hangs in the branches",
    "somebody has chalked numbers on the wall",
    "a jar of buttons has tipped over",
    "a striped cloth covers half of the table",
    "footprints lead away to the left",
    "a ladder of shadows falls across the floor",
    "the paint of the door is peeling in long strips",
    "a row of empty bottles glitters behind it",
    "one shoe is missing its lace",
    "a faded poster announces a circus",
    "moths circle around the only lamp",
    "a child's drawing is pinned to the shutter",
    "the smell of oranges seems to fill the air",
    "wet umbrellas drip into a bucket",
    "a curtain moves although no window is open",
    "ivy has grown over the letterbox",
    "two chairs face each other with nobody in them",
    "a bell rope hangs down beside the stairs",
    "crumbs and a blunt knife are all that is left of breakfast",
    "somewhere in the back a light is on",
    "small flags are strung from house to house",
    "the reflection in the glass shows another street",
)
_LIGHT = (
    "early morning fog",
    "hard light at noon",
    "the orange glow of a street lamp",
    "soft grey light of an overcast day",
    "long shadows of a late autumn afternoon",
    "candlelight that leaves the corners dark",
    "bright snow light through dirty glass",
    "the blue hour just after sunset",
    "a beam of sun full of dust",
    "cold moonlight and one warm window",
    "rain that blurs everything behind it",
    "the first thunder of a summer storm",
)
_KINDS = (
    "a grainy photograph on old film",
    "a watercolour with visible pencil lines",
    "a linocut in two colours",
    "a wide-angle photograph from knee height",
    "an oil painting with thick brush strokes",
    "a close-up with a blurred background",
    "a page from a picture book for children",
    "a charcoal drawing on brown paper",
    "a view from far above",
    "a still from a slow black and white film",
    "a pastel sketch made in a hurry",
    "a postcard from the nineteen sixties",
    "an etching full of fine hatching",
    "a collage of torn coloured paper",
)
_ORDERS = (
    "{kind}: {subject} {action} {place}, {detail}, and {second}. The scene is lit by {light}",
    "{place}, {subject} {action}. {detail}, while {second}. {light}, {kind}",
    "{light}. {subject} {action} {place}; {detail} and {second}. It looks like {kind}",
    "{subject} {action} {place}. In the foreground {detail}, farther back {second}. {kind}, {light}",
    "{detail} {place}, where {subject} {action}. {second}. {kind} with {light}",
    "imagine {kind} in which {subject} {action} {place}. {second}, {detail}, {light} over everything",
)


def write_everyday(seed: int, number: int) -> str:
    """Returns one prompt.

    Args:
        seed: decides the prompts.
        number: which of them, from 0.
    """

    def pick(options: Sequence[str], part: str) -> str:
        return choose(options, seed, part, number)

    group = choose(tuple(_SUBJECTS), seed, "group", number)
    first = draw_number(seed, "detail", number) % len(_DETAILS)
    step = 1 + draw_number(seed, "second", number) % (len(_DETAILS) - 1)
    text = pick(_ORDERS, "order").format(
        kind=pick(_KINDS, "kind"),
        subject=pick(_SUBJECTS[group], "subject"),
        action=pick(_ACTIONS[group], "action"),
        place=pick(_PLACES, "place"),
        detail=_DETAILS[first],
        second=_DETAILS[(first + step) % len(_DETAILS)],
        light=pick(_LIGHT, "light"),
    )
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def everyday_prompts(seed: int, count: int, without: Sequence[str] = ()) -> list[str]:
    """Returns different prompts.

    Args:
        seed: decides the prompts.
        count: how many.
        without: prompts that are left out.
    """
    found: dict[str, None] = {}
    number = 0
    while len(found) < count:
        text = write_everyday(seed, number)
        number += 1
        if text not in without:
            found.setdefault(text)
    return list(found)
