"""Our percentiles in Locust's own pages: a tab of its web UI, and its HTML report.

Locust rounds latencies below 100 ms to whole milliseconds, and one percentile of it is of all outcomes. Importing this
imports Locust, which replaces the blocking calls of the whole process: only the locustfile does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import locust.html
import locust.main
import locust.web
from flask import Blueprint, Response, jsonify, request
from locust import stats

from loadtests.load.table import TITLES, as_csv, as_html, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment

    from loadtests.load.histograms import Histograms

_LATENCIES = "latencies"
_VERDICT = "verdict"
# Locust's page asks for nothing more once a test has ended, and the verdict comes after that.
_NO_VERDICT = "None yet. It comes after the test has ended: load this page again then."
# What Locust's page is drawn into. Its scripts may hold the same text before it; what comes after is escaped.
_ROOT = '<div id="root"></div>'


def extend(environment: Environment, current: Callable[[], Histograms], verdict: Callable[[], str]) -> None:
    """Show the latencies in Locust's pages; call it once in each process, when `init` fires.

    The file of `--html` is written after `test_stop` and before `quitting`: a verdict that is to be in it is there
    when the listeners of `test_stop` have returned.

    Args:
        environment: of this process; in a worker and without a web UI there is no tab.
        current: what was counted until now, by all processes.
        verdict: what the test showed, as lines; "" while it is not judged. Both are asked for whenever a page is.
    """
    _keep_digits()
    _extend_report(lambda: as_html(table(current()), verdict()))
    if environment.web_ui is not None:
        options = environment.parsed_options
        _extend_ui(environment.web_ui, options.web_base_path if options else "", current, verdict)


def _keep_digits() -> None:
    """Let Locust's own statistics keep three digits, in its UI, its HTML and its JSON.

    Where it writes CSV (`--csv`, and the downloads), it still cuts percentiles to whole milliseconds: they are for
    looking at counts, and ours are under `/kairos/latencies.csv`.
    """
    stats.bucket_response_time = _three_digits  # type: ignore[assignment] # it works with floats, as with int


def _three_digits(response_time: float) -> float:
    return float(f"{response_time:.3g}")


def _extend_report(section: Callable[[], str]) -> None:
    """Put a section at the top of the HTML report: of `--html` (`locust.main`) and of the download (`locust.web`)."""
    plain: Any = locust.html.get_html_report

    def extended(*args: Any, **keywords: Any) -> str:
        before, root, after = plain(*args, **keywords).rpartition(_ROOT)
        return f"{before}{section()}{root}{after}"

    # Each of them has a name of its own for it.
    locust.main.get_html_report = extended  # type: ignore[attr-defined]
    locust.web.get_html_report = extended  # type: ignore[attr-defined]


def _extend_ui(ui: Any, base_path: str, current: Callable[[], Histograms], verdict: Callable[[], str]) -> None:
    """Add the tabs and the routes to a web UI (`locust.web.WebUI`) that has not been started."""

    def latencies() -> Response:
        return jsonify({_LATENCIES: [row.by_column() for row in table(current())], _VERDICT: verdict()})

    def latencies_csv() -> Response:
        header = {"Content-Disposition": "attachment;filename=latencies.csv"}
        return Response(as_csv(table(current())), mimetype="text/csv", headers=header)

    def with_rows(response: Response) -> Response:
        # While a test runs, the page asks for Locust's statistics every two seconds. Rows of further tabs come along.
        if request.endpoint != "locust.request_stats" or not response.is_json:
            return response
        rows = [row.sortable() for row in table(current())]
        lines = [{"line": line} for line in (verdict() or _NO_VERDICT).splitlines()]
        further = [{"key": _LATENCIES, "data": rows}, {"key": _VERDICT, "data": lines}]
        # Locust gives the same answer again for two seconds: it stays as it is, and this is another.
        return jsonify({**response.get_json(), "extended_stats": further})

    pages = Blueprint("kairos", __name__, url_prefix=f"{base_path}/kairos")
    pages.add_url_rule("/latencies", view_func=ui.auth_required_if_enabled(latencies))
    pages.add_url_rule("/latencies.csv", view_func=ui.auth_required_if_enabled(latencies_csv))
    ui.app.register_blueprint(pages)
    ui.app.after_request(with_rows)
    ui.template_args.update(_tabs())


def _tabs() -> dict[str, Any]:
    """What Locust's page is to show besides its own."""
    columns = [{"key": key, "title": title} for key, title in TITLES.items()]
    return {
        "extended_tabs": [{"title": "Latencies", "key": _LATENCIES}, {"title": "Verdict", "key": _VERDICT}],
        "extended_tables": [
            {"key": _LATENCIES, "structure": columns},
            {"key": _VERDICT, "structure": [{"key": "line", "title": "Verdict"}]},
        ],
        "extended_csv_files": [{"href": "./kairos/latencies.csv", "title": "Download latencies CSV"}],
    }
