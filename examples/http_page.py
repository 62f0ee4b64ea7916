"""A process with web pages: routes and messages come in at the same address.

Start it with: python examples/http_page.py --port 5050

Then open http://127.0.0.1:5050/counter, or send the process a message, and look again:

    curl -d 5 -H 'Libprocess-From: me@127.0.0.1:1' http://127.0.0.1:5050/counter/add
"""

import argparse
import asyncio

from compactor import Context, Process, install, route


class Counter(Process):
    def __init__(self):
        super().__init__("counter")
        self.total = 0

    @install("add")
    def add(self, from_pid, body):
        self.total += int(body)

    @route("/")
    def page(self, handler):
        # Handlers and plain routes of a process never run at the same time: no lock is needed.
        handler.write(f"<!doctype html><title>counter</title><h1>{self.total}</h1>")

    @route("/state")
    def state(self, handler):
        handler.write({"total": self.total})

    @route("/set", methods=("POST",))
    def set_total(self, handler):
        self.total = int(handler.get_body_argument("total"))
        handler.redirect("/counter")

    @route("/watch")
    async def watch(self, handler):
        # An async route may take as long as it likes; messages are handled meanwhile.
        for _ in range(int(handler.get_query_argument("times", "3"))):
            handler.write(f"{self.total}\n")
            await handler.flush()
            await asyncio.sleep(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, help="on which port of 127.0.0.1 (default: any free one)")
    context = Context(ip="127.0.0.1", port=parser.parse_args().port)
    context.start()
    pid = context.spawn(Counter())
    print(f"open {pid.as_url()}", flush=True)
    try:
        context.join()
    except KeyboardInterrupt:
        context.stop()


if __name__ == "__main__":
    main()
