"""What the project is called and who made it; the one place in code where that stands."""

from typing import Final

NAME: Final = "<< cookiecutter.__project_name >>"
DESCRIPTION: Final = "<< cookiecutter.__description >>"
AUTHOR: Final = "<< cookiecutter.__author_name >>"
DISTRIBUTION: Final = "<< cookiecutter.project_slug >>"
