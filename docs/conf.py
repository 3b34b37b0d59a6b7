"""Sphinx's settings: ``python -m sphinx -W -b html docs build/docs``."""

import re
from importlib.metadata import version as installed_version
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.nodes import make_refnode

import pyro_gtm
import pyro_gtm.series
import pyro_gtm.tasks

project = "pyro_gtm"
author = "the pyro_gtm developers"
project_copyright = "the pyro_gtm developers, Apache 2.0"
version = release = installed_version("pyro_gtm")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["jupyter_execute"]

smartquotes_action = "qe"  # two dashes before an option are no dash

html_theme = "furo"
html_title = "pyro_gtm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

# Markdown: the same pages read well without Sphinx, so that little of MyST is used.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

# MathJax comes with a package and is copied beside the pages: they need no network.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"chtml": {"displayAlign": "left", "displayIndent": "1em"}}

nb_execution_mode = "auto"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # tqdm, which Pyro imports, misses widgets that nothing here shows

add_module_names = False  # a page is a module
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True


# Names of other packages lead nowhere: their inventories would have to be fetched for every build.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|pyro|numpy|np|matplotlib|click|pandas|pathlib|collections|abc)\..*"),
    (r"py:.*", r"pyro_gtm\.internals\..*"),
    (r"py:.*", r"(.*\.)?_\w+"),  # private bases and helpers
    (r"py:.*", r"(Tensor|ExpandedDistribution|os\.PathLike)"),
    # Names that nobody imports: aliases of types, and what stands behind a public function.
    (r"py:.*", r"(Initialisation|Norm|Parameters|Attention|DecoderInput|Layout)"),
    (r"py:.*", r"(Posterior|Precision|Prior|Writes|(.*\.)?DeviceELBO)"),
    (r"py:.*", r"(Rooms|Recordings|MissingDataError|prepare)"),
    (r"py:attr", r"(read_shape|MemoryModule.recall_length)"),  # set in the constructor
]

SCOPES = ("pyro_gtm", "pyro_gtm.series.fitting", "pyro_gtm.experiments.data")
"""Where docstrings name what is imported under another name, or nowhere."""

BARS = re.compile(r"\|(\w+)\|")

GOOGLE_STYLE: Any = Config(napoleon_use_param=True, napoleon_use_rtype=True)


class Docstring(GoogleDocstring):
    """Sections of a docstring as fields.  What is returned is typed by its annotation: in "The mean
    over sequences: ``(T,)``" nothing before the colon is a type, as Napoleon would have it."""

    def _consume_returns_section(self, preprocess_types: bool = False) -> Any:
        return [("", "", self._dedent(self._consume_to_next_section()))]


def read_docstring(
    app: Sphinx, what: Any, name: str, of: Any, options: Any, lines: list[str]
) -> None:
    # "log |x|" in prose is no substitution; what is indented may be a literal block.
    lines[:] = [line if line.startswith("    ") else BARS.sub(r"\\|\1\\|", line) for line in lines]
    if what not in ("attribute", "property", "data"):  # whose "h_t: the state" names no type
        lines[:] = Docstring(lines, GOOGLE_STYLE, app, what, name, of, options).lines()


def find_where_documented(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """A reference to an object by any name that it can be imported by, from where it stands."""
    if node.get("refdomain") != "py":
        return None
    wanted = "".join(node["reftarget"].split())
    module, owner = node.get("py:module"), node.get("py:class")
    scopes = [f"{module}.{owner}" if owner else None, module, *SCOPES]
    names = [wanted, *(f"{scope}.{wanted}" for scope in scopes if scope)]
    documented = env.domains.python_domain.objects
    last = wanted.rpartition(".")[2]
    candidates = [name for name in documented if name.rpartition(".")[2] == last]
    for of in filter(None, map(imported, names)):
        for name in candidates:
            if imported(name) is of:
                found = documented[name]
                return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, text)
    return None


def imported(name: str) -> Any:
    """The object of that full name; None where there is none."""
    of: Any = pyro_gtm
    package, *attributes = name.split(".")
    if package != "pyro_gtm":
        return None
    for attribute in attributes:
        of = getattr(of, attribute, None)
    return of


def escape_asterisks(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Help texts are plain, and name patterns of files."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("sphinx-click-process-options", escape_asterisks)
    app.connect("missing-reference", find_where_documented)
