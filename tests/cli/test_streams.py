"""Commands as real processes whose standard streams are closed, full, or pipes that nobody reads."""

import io
import json
import os
import subprocess
import sys
import threading

import pytest

TINY = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1)
DONE, DATA, OUTPUT, BROKEN_PIPE = 0, 3, 7, 141
FORECAST = [sys.executable, "-m", "forecast_cli"]


def shell(line, redirections, **environment):
    """The command under a shell that redirects its streams; what is not redirected is kept."""
    words = " ".join(map(str, (*FORECAST, *line)))
    return subprocess.run(
        f"{words} {redirections}",
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["train", "rollout", "simulate", "plot"])
def test_the_work_is_done_where_no_message_can_be_shown(command, redirections, series, series_run, tmp_path):
    output = tmp_path / ("made.png" if command == "plot" else "made.nc")
    line = {
        "train": ("train", series, *TINY),
        "rollout": ("rollout", series_run, "--data", series),
        "simulate": ("simulate", "burgers", "--grid", 12, "--frames", 3),
        "plot": ("plot", series),
    }[command]
    result = shell((*line, "-o", output, "--verbose"), redirections)
    assert (result.returncode, result.stdout, result.stderr) == (DONE, "", "")
    assert output.exists()


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_json_and_the_exit_code_of_a_failure_do_not_depend_on_stderr(redirection, series):
    told = shell(("info", series, "--json"), redirection)
    assert (told.returncode, json.loads(told.stdout)["source"]) == (DONE, str(series))
    assert shell(("info", "none.nc", "--json"), redirection).returncode == DATA


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("line", ["info --json", "--version", "--help", "train --help"])
def test_a_result_that_stdout_does_not_take_is_one_line_and_exit_code_7(line, redirection, series):
    result = shell((line.replace("info", f"info {series}"),), redirection)
    assert (result.returncode, result.stderr.count("\n")) == (OUTPUT, 1), result.stderr
    assert result.stderr.startswith("forecast: standard output: cannot be written (")
    lost = shell((line.replace("info", f"info {series}"),), f"{redirection} 2>&-")
    assert (lost.returncode, lost.stderr) == (OUTPUT, "")


@pytest.mark.parametrize("line", ["info --json", "--help", "evaluate --help"])
def test_a_pipe_without_reader_ends_the_process_as_sigpipe_would(line, series):
    reader, writer = os.pipe()
    os.close(reader)
    words = line.replace("info", f"info {series}").split()
    result = subprocess.run([*FORECAST, *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (BROKEN_PIPE, "")


def test_messages_into_a_pipe_without_reader_are_lost(series):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [*FORECAST, "info", str(series), "--json", "-v"], stderr=writer, stdout=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (result.returncode, json.loads(result.stdout)["source"]) == (DONE, str(series))


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import os; from forecast_cli.cli.streams import prepare_streams; prepare_streams(); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno())); file.flush(); "
        "os.write(2, b'a message of a library')"
    )
    subprocess.run(f"{sys.executable} -c {json.dumps(program)} <&- >&- 2>&-", shell=True, check=True)
    assert int((tmp_path / "file").read_text()) > 2


def test_a_stream_that_would_block_is_waited_for():
    from forecast_cli.cli.streams import _Result

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    content, received = b"x" * 300_000, []
    thread = threading.Thread(target=lambda: received.append(os.fdopen(reader, "rb").read()))
    timer = threading.Timer(0.2, thread.start)
    timer.start()
    with io.BufferedWriter(_Result(writer, "w")) as stream:
        stream.write(content)
    timer.join()
    thread.join()
    assert received == [content]


def test_a_terminal_without_a_character_is_no_failure(series, tmp_path):
    link = tmp_path / "größe.nc"
    link.symlink_to(series)
    result = subprocess.run(
        [*FORECAST, "info", str(link)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (result.returncode, b"Traceback" in result.stderr) == (DONE, False), result.stderr
    assert b"e.nc" in result.stderr
