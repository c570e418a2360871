# Before the configuration is read: what it must not say is refused with its file and key.
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
# Scripts run in processes of their own.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")]))
}

from graftwork.core.errors import DesignError
from graftwork.core.yaml_files import check_configuration

CONFIG_FILE = "config/config.yaml"
try:
    if Path(CONFIG_FILE).exists():
        check_configuration(Path(CONFIG_FILE), CONFIG_FILE)
except DesignError as error:
    raise WorkflowError(str(error)) from None
