"""Check the answers again with local_extensions.py, unless an answer has disabled it."""

# % if check_answers is defined
# << check_answers(cookiecutter, _cookiecutter | default({})) >>
# % else
raise SystemExit("Leave out _extensions: answers that begin with _ cannot be given.")
# % endif
