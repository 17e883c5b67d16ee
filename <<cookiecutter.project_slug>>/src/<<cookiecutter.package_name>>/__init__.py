"""The application. Read app.py first."""
