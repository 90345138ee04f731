"""The picture of a frontier: both kinds of error against forward passes."""

import matplotlib

matplotlib.use('Agg')  # a file, whatever the machine has for a screen

import matplotlib.pyplot as plt


def write(path, rows, config):
  """Stub."""
  del path, rows, config, plt
