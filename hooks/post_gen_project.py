"""Remove the files of options that were not chosen, and print the next steps."""

import shutil
from pathlib import Path

SOURCE = "src/<< cookiecutter.package_name >>"
# Paths that are kept only with one of these answers, by question.
PATHS = {
    "database": {
        "migrations": ["sqlite", "postgresql"],
        f"{SOURCE}/database": ["sqlite", "postgresql"],
        f"{SOURCE}/database/sqlite.py": ["sqlite"],
        f"{SOURCE}/database/postgresql.py": ["postgresql"],
        f"{SOURCE}/database/wait_for_postgresql.py": ["postgresql"],
        f"{SOURCE}/news": ["sqlite", "postgresql"],
        f"{SOURCE}/static/news.css": ["sqlite", "postgresql"],
        f"{SOURCE}/static/news.js": ["sqlite", "postgresql"],
        f"{SOURCE}/web/conditional.py": ["sqlite", "postgresql"],
        f"{SOURCE}/web/json_body.py": ["sqlite", "postgresql"],
        f"{SOURCE}/web/tokens.py": ["sqlite", "postgresql"],
        "tests/database": ["sqlite", "postgresql"],
        "tests/database/sqlite.py": ["sqlite"],
        "tests/database/postgresql.py": ["postgresql"],
        "tests/database/test_sqlite.py": ["sqlite"],
        "tests/database/test_postgresql.py": ["postgresql"],
        "tests/news": ["sqlite", "postgresql"],
        "tests/web/test_json_body.py": ["sqlite", "postgresql"],
        "tests/admin/test_news.py": ["sqlite", "postgresql"],
    },
}
ANSWERS = {"database": "<< cookiecutter.database >>"}

for question, paths in PATHS.items():
    for name, answers in paths.items():
        path = Path(name)
        if ANSWERS[question] in answers:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

print("""
<< cookiecutter.project_slug >> is baked. Next:

    cd << cookiecutter.project_slug >>
    make install    # into .venv
    make dev        # http://localhost:8080, with live reload
    make            # lists the other targets
""")
