"""Static metadata; settings of the tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "graphviz": ["graphviz"],
    "test": ["pytest>=8", "pytest-timeout", "pytest-xdist", "hypothesis>=6", "graphviz", "ruff", "mypy"],
}

setup(
    name="xfer2",
    version="0.1.0",
    description="Repurpose trained MXNet/Gluon networks for new tasks with little data",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["xfer2", "xfer2.*"]),
    package_data={"xfer2": ["py.typed", "zoo/*.json", "zoo/*.params", "zoo/*.md"]},
    install_requires=[
        "mxnet==1.9.1",
        "numpy>=1.23,<2",
        "setuptools; python_version >= '3.12'",
        "scikit-learn>=1.6",
        "gpytorch>=1.13",
        "torch>=2",
        "gluoncv==0.10.5",
        "onnx>=1.13,<1.17",
        "onnxruntime>=1.17",
        "pandas>=2",
        "pyarrow>=14,<24",
        "matplotlib>=3.8",
        "pillow>=10",
        "tomli>=2; python_version < '3.11'",
        "typer>=0.12",
        "rich>=13",
        "skops>=0.11",
        "safetensors>=0.4",
        "mapie>=1",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["xfer2=xfer2.cli.app:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
