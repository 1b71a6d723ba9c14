"""Builds the compiled parts: the shuffle's kernels and the record decoders."""

import glob
import os

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = sorted(["cython_shuffle/_kernels.pyx", *glob.glob("sabotd/formats/*.pyx")])

# no -march=native: a wheel built here must run elsewhere
EXTENSIONS = [
    Extension(
        os.path.splitext(source)[0].replace("/", "."),
        [source],
        depends=glob.glob(os.path.join(os.path.dirname(source), "kernels", "*.[ph]*")),
        extra_compile_args=["-O3", "-fno-strict-aliasing"],
    )
    for source in SOURCES
]

setup(ext_modules=cythonize(EXTENSIONS, language_level=3, nthreads=0, annotate=False))
