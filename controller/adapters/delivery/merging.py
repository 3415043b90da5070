"""Several feeds of states as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from controller.domain.delivery import DeliveryStatus


async def merged(feeds: Sequence[AsyncGenerator[DeliveryStatus]]) -> AsyncGenerator[DeliveryStatus]:
    """Yield what any of them yields, until closed; raise what one of them breaks with. Every feed is closed with it.

    Each has one place: a slow reader sees the newest of all, and no feed can crowd out another.
    """
    news: asyncio.Queue[DeliveryStatus | Exception] = asyncio.Queue(maxsize=max(1, len(feeds)))

    async def follow(feed: AsyncGenerator[DeliveryStatus]) -> None:
        try:
            async with aclosing(feed):
                async for status in feed:
                    await news.put(status)
        except Exception as error:
            await news.put(error)

    followers = [asyncio.create_task(follow(feed)) for feed in feeds]
    try:
        while followers:
            found = await news.get()
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
