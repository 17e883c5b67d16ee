"""Names of the project and its author, which are not repeated elsewhere in the code."""

from typing import Final

NAME: Final = "<< cookiecutter.__project_name >>"
DESCRIPTION: Final = "<< cookiecutter.__description >>"
AUTHOR: Final = "<< cookiecutter.__author_name >>"
DISTRIBUTION: Final = "<< cookiecutter.project_slug >>"
