"""What a run says while it goes on: rows, TensorBoard, the time it takes."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from punt_jax import extras, jsonl
from punt_jax.viz import progress

WARM = 5  # steps after which the time of the others is known
Report = Callable[[int, Mapping[str, Any]], None]


@contextlib.contextmanager
def reporting(workdir: Any, bar: Any, start: int) -> Iterator[Report]:
  """report(step, {name: number}), for metrics.jsonl, TensorBoard and the bar.

  Args:
    workdir: pathlib.Path.
    bar: of progress.
    start: updates done; what TensorBoard has seen beyond them is void.
  """
  with tensorboard(workdir, start) as show:

    def report(step, row):
      jsonl.append(workdir / 'metrics.jsonl', {'step': step, **row})
      show(step, row)
      numbers = (f'{k} {v:.3f}' for k, v in row.items() if isinstance(v, float))
      bar.set_postfix_str(' '.join(numbers), refresh=False)

    yield report


@contextlib.contextmanager
def tensorboard(folder: Any, start: int) -> Iterator[Report]:
  """show(step, row); without the package or a file to write, it does nothing.

  The package's own writer has a thread, and waits for ever once that has met a
  full disk. So rows are written here, each as it comes.
  """
  try:
    writer, event, scalar = _events(folder, start)
  except (ValueError, OSError) as error:
    print(f'{error}: there are no files for TensorBoard', file=sys.stderr)
    yield lambda *_: None
    return
  broken = False

  def show(step, row):
    nonlocal broken
    if broken:
      return
    try:
      for name, value in row.items():
        said = event(step=step, summary=scalar(name, value))
        said.wall_time = time.time()
        writer.write_event(said)
      writer.flush()
    except OSError as error:
      broken = True
      print(f'{error}: the files for TensorBoard end here', file=sys.stderr)

  try:
    yield show
  finally:
    with contextlib.suppress(OSError):
      writer.close()


def _events(folder, start):
  """An open file, and the makers of an event and of a scalar in it."""
  extras.load('tensorboardX', 'TensorBoard')
  from tensorboardX import event_file_writer, summary
  from tensorboardX.proto import event_pb2

  event = event_pb2.Event
  again = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  writer = event_file_writer.EventsWriter(f'{folder}/events', f'.{start}')
  writer.write_event(event(step=start + 1, session_log=again))
  return writer, event, summary.scalar


def mean(recent: list[dict[str, float]]) -> dict[str, float]:
  """The mean of several steps, name by name."""
  return {k: float(np.mean([x[k] for x in recent])) for k in recent[0]}


def pace(bar: Any, start: int, total: int) -> Callable[[int, Any], None]:
  """Says what there is to do -> tell(step, values), after which how long.

  The first step compiles; the next ones are timed.
  """
  marks, left = [], total - start
  bar.write(
    f'training: {left} steps to go; after {WARM} of them it is known for how'
    ' long' if left else f'training: all {total} steps are done'
  )

  def tell(step, values):
    if step - start in (1, WARM):
      jax.block_until_ready(values)
      marks.append(time.monotonic())
    if step - start == WARM:
      more = total - step
      rest = progress.duration((marks[1] - marks[0]) / (WARM - 1) * more)
      bar.write(f'training: about {rest} for {more} more, evaluations aside')

  return tell
