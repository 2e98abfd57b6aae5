"""For gdb: prints where malloc, calloc and realloc were called from, as file and offset of each return address,
innermost first, for each call with a size in FROM..TO (environment)."""

import os

import gdb

FROM, TO = int(os.environ["FROM"]), int(os.environ["TO"])


def place(pc):
    """File and offset of `pc`; None if it is in no code."""
    with open(f"/proc/{gdb.selected_inferior().pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start <= pc < end and "x" in fields[1] and len(fields) > 5:
                return f"{fields[5]} {pc - start + int(fields[2], 16)}"
    return None


def was_interrupted(frame):
    """1 if a signal came before the instruction at the frame's pc, and not in a system call: heaptrace then gives the
    address after its first byte, as if a call ended there."""
    newer = frame.newer()
    if newer is None or newer.type() != gdb.SIGTRAMP_FRAME:
        return 0
    return int(bytes(gdb.selected_inferior().read_memory(frame.pc() - 2, 2)) != b"\x0f\x05")


def number(register):
    return int(gdb.parse_and_eval(f"(unsigned long)${register}"))


SIZES = {
    "malloc": lambda: number("rdi"),
    "calloc": lambda: number("rdi") * number("rsi"),
    "realloc": lambda: number("rsi"),
}


class Call(gdb.Breakpoint):
    def __init__(self, function):
        super().__init__(f"*{function}")
        self.function, self.size = function, SIZES[function]

    def stop(self):
        size = self.size()
        frame = gdb.newest_frame().older()
        # Of nested calls the outermost one counts.
        if FROM <= size <= TO and frame.name() not in SIZES:
            print(f"call {self.function} {size}")
            # Past a coroutine's outermost function, which its return address is the first byte of, gdb guesses.
            while frame is not None and (where := place(frame.pc() + was_interrupted(frame))):
                if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                    print(f"frame {where}")
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
    "handle SIGILL nostop noprint pass",
    "break __libc_start_main",
    "run",
    "delete",
]:
    gdb.execute(command)
for function in SIZES:
    Call(function)
gdb.execute("continue")
