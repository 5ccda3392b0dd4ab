"""The import path of `read_study` that scripts of earlier versions use."""

from oodml.study.spec.study_file import read_study as read_study
