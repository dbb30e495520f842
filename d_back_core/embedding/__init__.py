"""The gateway as an object inside another asyncio program."""
