"""tornado's own server, with the handler that compactor's route is compared with."""

from __future__ import annotations

import asyncio

import tornado.httpserver
import tornado.netutil
import tornado.web
from common import Run


class Page(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("hello, world")


def web(run: Run) -> None:
    """Serve one route; nothing is logged, as by compactor."""

    async def serve() -> None:
        application = tornado.web.Application([("/web/", Page)], log_function=lambda handler: None)
        server = tornado.httpserver.HTTPServer(application)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        run.ready(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/web/")
        await asyncio.to_thread(run.wait_for_end)
        run.report(0, 0.0, ok=True)
        server.stop()

    asyncio.run(serve())


if __name__ == "__main__":
    Run().play({"web": web})
