"""The import path of `ags_latex` that scripts of earlier versions use."""

from oodml.report.paper import ags_latex as ags_latex
