"""Antibody chains: natural domains, their loops, and which chain a piece is.

A variable domain is four rigid frame regions with three loops (CDRs) between
them: FR1 CDR1 FR2 CDR2 FR3 CDR3 FR4. Heavy and light chains have different
frames, and their CDR3 begins and ends differently. `chain` says for each region
which of the two it resembles, so a domain that changes its mind is noticed.
CDR1 and CDR2 are not looked at.

Borders of loops follow the IMGT scheme (Lefranc et al., 2003) by a rule that
holds for experiments/antibody/natural.py; they are approximate.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

from experiments.antibody import natural
from experiments.antibody.models import RESIDUES

LOOPS = re.compile(
  r'.*?C.{3}(.+?)..W[VI][RK]Q.{11}(.+).{35}YYC(.+)WG.G.*'
)


class Region(NamedTuple):
  """A piece of frame that has no gaps, and where it may begin."""

  length: int
  low: int  # first residue; negative: from the end
  high: int


REGIONS = {
  'FR1': Region(22, 0, 6),
  'FR2': Region(15, 28, 50),
  'FR3': Region(30, 55, 90),
  'FR4': Region(10, -13, -10),
}
PSEUDO = 0.5  # counts added to each residue at each place
# Nats: smaller log-likelihood ratios decide nothing. CDR3 is six residues.
CLEAR = dict.fromkeys(REGIONS, 8.0) | {'CDR3': 3.0}


def loops(heavy):
  """(n,) bool: residues of the three CDRs of a natural heavy chain.

  Raises:
    ValueError: the landmarks of a heavy chain are not there.
  """
  found = LOOPS.fullmatch(heavy)
  if not found:
    raise ValueError(f'{heavy} lacks the landmarks C, WxRQ, YYC, WGxG')
  inside = np.zeros(len(heavy), bool)
  for i in (1, 2, 3):
    inside[slice(*found.span(i))] = True
  return inside


def regions(domain):
  """{name: residues} of the regions of a natural domain, either chain."""
  w = re.search(r'W[VIYF][RKQ]Q', domain).start()
  c = max(m.end() for m in re.finditer(r'YYC', domain))
  j = max(m.start() for m in re.finditer(r'[WF]G.G', domain))
  return {
    'FR1': domain[:22], 'FR2': domain[w : w + 15],
    'FR3': domain[c - 30 : c], 'FR4': domain[j : j + 10],
    'CDR3': _ends(domain, c, j),
  }


def profile(pieces):
  """Natural log of each residue's frequency at each place, (n, 20).

  Args:
    pieces: strings of one length n.
  """
  counts = np.stack([_codes(piece) for piece in pieces])
  counts = (counts[..., None] == np.arange(len(RESIDUES))).sum(0) + PSEUDO
  return np.log(counts / counts.sum(-1, keepdims=True))


def profiles(heavy, light):
  """{region: (profile of heavy, profile of light)} of natural domains."""
  cut = [[regions(domain) for domain in chain] for chain in (heavy, light)]
  return {
    name: tuple(profile([piece[name] for piece in chain]) for chain in cut)
    for name in CLEAR
  }


@functools.cache
def known_profiles():
  """`profiles` of every natural domain."""
  return profiles(
    (natural.HEAVY | natural.MORE_HEAVY).values(),
    (natural.LIGHT | natural.MORE_LIGHT).values(),
  )


def ratios(domain, table=None):
  """{region: log-likelihood ratio of heavy over light, nats}.

  Each chain's profile is laid where it fits best in the range of its region.
  """
  table = table or known_profiles()
  codes = _codes(domain)
  found, where = {}, {}
  for name, (length, low, high) in REGIONS.items():
    low, high = (x + len(codes) * (x < 0) for x in (low, high))
    # A loop longer or shorter than any natural one must not break this.
    starts = range(low, max(low + 1, min(high, len(codes) - length) + 1))
    places = np.add.outer(starts, np.arange(length))
    pieces = codes[np.clip(places, 0, len(codes) - 1)]
    fits = [logs[np.arange(length), pieces].sum(-1) for logs in table[name]]
    found[name] = float(fits[0].max() - fits[1].max())
    where[name] = starts[np.argmax(np.maximum(*fits))]
  ends = _ends(domain, where['FR3'] + REGIONS['FR3'].length, where['FR4'])
  heavy, light = (
    logs[np.arange(len(ends)), _codes(ends)].sum() for logs in table['CDR3']
  )
  return found | {'CDR3': float(heavy - light)}


def chain(domain, table=None):
  """'heavy', 'light', 'mixed' or 'unclear'.

  Mixed: one region is clearly heavy, another clearly light. Unclear: fewer than
  three of the five regions resemble either chain clearly.
  """
  found = ratios(domain, table)
  heavy = sum(found[name] > least for name, least in CLEAR.items())
  light = sum(found[name] < -least for name, least in CLEAR.items())
  if heavy and light:
    return 'mixed'
  if max(heavy, light) < 3:
    return 'unclear'
  return 'heavy' if heavy else 'light'


def variety(pieces):
  """How much strings differ: {name: number}.

  distinct_3: different triples of residues, as a share of all triples.
  identity: share of equal residues in two strings of the same length, mean
  over all such pairs. duplicates: share of strings that came before.
  """
  triples = [s[i : i + 3] for s in pieces for i in range(len(s) - 2)]
  equal, pairs = 0.0, 0
  for length in {len(s) for s in pieces}:
    codes = np.stack([_codes(s) for s in pieces if len(s) == length])
    n = len(codes)
    counts = (codes[..., None] == np.arange(len(RESIDUES))).sum(0)
    equal += float((counts * (counts - 1)).sum() / 2 / length)
    pairs += n * (n - 1) // 2
  return {
    'distinct_3': len(set(triples)) / len(triples),
    'identity': equal / max(pairs, 1),
    'duplicates': 1 - len(set(pieces)) / len(pieces),
  }


def _ends(domain, start, stop):
  """Three residues from `start` on and the three before `stop`."""
  return (domain[start : start + 3] + domain[stop - 3 : stop]).ljust(6, 'A')


def _codes(domain):
  return np.array([RESIDUES.index(letter) for letter in domain])
