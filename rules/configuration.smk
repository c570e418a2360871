# Before the configuration is read: what it must not say is refused with its file and key.
import os
import sys
from pathlib import Path

# The repository. In a module, `workflow.basedir` is that of the workflow that uses it.
HOME = str(Path(workflow.current_basedir.get_path_or_uri(secret_free=False)).parent)
# Used as a module, this workflow has the configuration that it was given, and neither the command line nor hooks of its own.
IS_MODULE = not workflow.modifier.is_main_snakefile()
sys.path.insert(0, HOME)
# Scripts run in processes of their own.
os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, [HOME, os.environ.get("PYTHONPATH")]))}

from graftwork.core.collector import leave_alone

# All of Snakemake is imported, and stays.
leave_alone()

from graftwork.core.errors import DesignError
from graftwork.core.yaml_files import check_configuration

CONFIG_FILE = "config/config.yaml"
try:
    if Path(CONFIG_FILE).exists() and not IS_MODULE:
        check_configuration(Path(CONFIG_FILE), CONFIG_FILE)
except DesignError as error:
    raise WorkflowError(str(error)) from None
