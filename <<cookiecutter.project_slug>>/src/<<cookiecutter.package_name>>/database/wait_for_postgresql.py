"""Program that waits for the server before workers start, because workers may not wait as long."""

import asyncio

from .. import logs
from ..settings import load_settings
from .postgresql import make_engine, open_database


async def main() -> None:
    """Wait until the server accepts connections. Raises SystemExit if it does not."""
    settings = load_settings()
    logs.configure(level=settings.log_level, json=not settings.development)
    engine = make_engine(settings)
    await open_database(engine, settings)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
