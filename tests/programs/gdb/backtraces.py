"""For gdb: prints where malloc was called from, as file and offset of each return address, innermost first, for
each call with a size in FROM..TO (environment)."""

import os

import gdb

FROM, TO = int(os.environ["FROM"]), int(os.environ["TO"])


def place(pc):
    with open(f"/proc/{gdb.selected_inferior().pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start <= pc < end:
                return f"{fields[5]} {pc - start + int(fields[2], 16)}"
    return f"? {pc}"


class Malloc(gdb.Breakpoint):
    def stop(self):
        size = int(gdb.parse_and_eval("$rdi"))
        if FROM <= size <= TO:
            print(f"size {size}")
            frame = gdb.newest_frame().older()
            while frame is not None:
                if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                    print(f"frame {place(frame.pc())}")
                frame = frame.older()
        return False


for command in [
    "set pagination off",
    "set confirm off",
    "set breakpoint pending on",
    "set debuginfod enabled off",
    "set backtrace past-main on",
    "set backtrace past-entry on",
    "handle SIGUSR1 nostop noprint pass",
    "break __libc_start_main",
    "run",
    "delete",
]:
    gdb.execute(command)
Malloc("*malloc")
gdb.execute("continue")
