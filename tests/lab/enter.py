"""Run a command on a host of the laboratory: enter.py PID GROUP COMMAND...

PID is the host's first process, GROUP its memory cgroup or ''. Signals to the foreground group reach the command; this process
outlives them to hand its exit status on, and takes the command with it when it is killed itself.
"""

import ctypes
import os
import signal
import sys

NAMESPACES = ("ipc", "uts", "net", "mnt", "pid")
PR_SET_PDEATHSIG = 1


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    pid, group, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    if group:
        with open(os.path.join(group, "cgroup.procs"), "w") as file:  # noqa: PTH123, PTH118 - pathlib takes 20 ms to import
            file.write(str(os.getpid()))
    folder = os.getcwd()  # noqa: PTH109
    spaces = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    for space in spaces:
        if libc.setns(space, 0):
            sys.exit(f"enter.py: host of process {pid}: {os.strerror(ctypes.get_errno())}")
    child = os.fork()  # a process namespace is entered by children alone
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job, such as make's in CI, has it ignored
        try:
            os.chdir(folder)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"enter.py: {command[0]}: {error}\n".encode())
            os._exit(127)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(128 - status if status < 0 else status)


main()
