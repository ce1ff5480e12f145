"""Files that the hub writes into a user's folder: a new project, a blueprint's flows, an editor's settings.

Called by the command line. What is written comes out of the package (``hub/_project``, ``hub/_blueprints``);
nothing that exists is overwritten unless that was asked for.
"""

from hub.scaffold.blueprints import (
    Blueprint,
    blueprints_folder,
    find_blueprint,
    read_blueprints,
    use_blueprint,
)
from hub.scaffold.editor import write_schemas
from hub.scaffold.files import Written
from hub.scaffold.project import namespace_for, write_project

__all__ = [
    "Blueprint",
    "Written",
    "blueprints_folder",
    "find_blueprint",
    "namespace_for",
    "read_blueprints",
    "use_blueprint",
    "write_project",
    "write_schemas",
]
