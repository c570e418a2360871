"""The page that says where a run's time went."""

from graftwork.reports.time_spent import read_times, time_page

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(folder, name, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"{s}\t0:00:00\t{rss}\t1\t1\t1\t0\t0\t0\t{cpu}\n" for s, rss, cpu in rows))


def test_times_are_added_up_by_rule_and_the_longest_comes_first(tmp_path):
    write(tmp_path, "draw_grid/demo/a.tsv", (2.0, 100, 1.0))
    write(tmp_path, "draw_grid/demo/b.tsv", (4.0, 50, 4.0))
    write(tmp_path, "generate_images/all/0123.tsv", (54.0, 1024, 108.0))
    write(tmp_path, "verdict/all.tsv", (0.0, "-", "-"))
    write(tmp_path, "condition/all/running.tsv")
    times = read_times(tmp_path)
    assert [(rule.rule, len(rule.seconds), sum(rule.seconds)) for rule in times] == [
        ("generate_images", 1, 54.0),
        ("draw_grid", 2, 6.0),
        ("verdict", 1, 0.0),
    ]
    grids = times[1]
    assert (grids.longest, grids.cpu_seconds, grids.memory) == ("draw_grid/demo/b", 5.0, 100 * 2**20)
    page = time_page(times)
    assert "4 jobs, 60 s together." in page
    assert "| generate_images | 1 | 54 s | 90% |" in page
    assert "| 2.0 | 1.1 GB |" in page


def test_a_folder_without_benchmarks_gives_an_empty_page(tmp_path):
    assert "0 jobs" in time_page(read_times(tmp_path))
