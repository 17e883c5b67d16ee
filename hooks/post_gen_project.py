"""Say what to do next."""

print("""
<< cookiecutter.project_slug >> is baked. Next:

    cd << cookiecutter.project_slug >>
    make install    # into .venv
    make dev        # http://localhost:8000, with live reload
    make            # lists the other targets
""")
