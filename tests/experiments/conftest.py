"""Every picture that a test of an experiment draws is looked at."""

import pytest

from punt_jax.viz import figures
from tests.helpers import pictures


@pytest.fixture(autouse=True, scope='session')
def pictures_are_whole():
  """Fails a test whose picture cuts off a text."""
  fit = figures.fit

  def checked(figure):
    fit(figure)
    pictures.check(figure)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(figures, 'fit', checked)
    yield
