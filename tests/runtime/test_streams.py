"""Claims about printing in processes whose standard streams are closed or of small encodings."""

import subprocess
import sys

import pytest

PRINT = """
import sys
from jvrc.runtime import streams
streams.repair()
print(TEXT)
print('ok', file=sys.stderr)
"""


def printed(text, **environment):
    code = PRINT.replace("TEXT", ascii(text))
    variables = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"} | environment
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=variables)
    assert (result.returncode, result.stderr) == (0, b"ok\n")
    return result.stdout


@pytest.mark.parametrize("environment", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_characters_that_an_encoding_lacks_are_written_out(environment):
    assert printed("Δ = 1 … 2, 3×4 µm, ж", **environment) == b"Delta = 1 ... 2, 3x4 um, ?\n"


def test_those_that_it_has_stay():
    found = printed("Δ = 1 … 2 ж", PYTHONIOENCODING="cp1251")
    assert found == "Delta = 1 … 2 ж\n".encode("cp1251")
    assert printed("Δ ж", PYTHONIOENCODING="utf-8") == "Δ ж\n".encode()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_bytes_of_a_file_name_stay(encoding):
    assert printed("\udcff.png", PYTHONIOENCODING=encoding) == b"\xff.png\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere_and_to_no_file(tmp_path, closed):
    code = (
        "from jvrc.runtime import streams; streams.repair()\n"
        "import os, sys\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2\n"
        "print('text'); print('text', file=sys.stderr); os.write(1, b'x'); os.write(2, b'x')\n"
        "assert sys.stdin.read() == ''\n"
    )
    command = f'"$0" -c "$1" {closed}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, code], capture_output=True, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "file").read_text() == ""
