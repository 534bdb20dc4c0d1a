"""`python -m ops.monitoring`: write the Grafana dashboards anew. It needs the developers' packages."""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, GraphDrawStyle, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from ops.monitoring.panels import BOARDS, Board, Panel

FOLDER = Path(__file__).parent / "dashboards"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")


def written() -> dict[Path, str]:
    """Each dashboard's file and content."""
    return {FOLDER / f"{board.uid}.json": _as_json(board) for board in BOARDS}


def _as_json(board: Board) -> str:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["withdrawals"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    for title, panels in board.rows:
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(_stat(panel) if panel.is_stat else _lines(panel))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _stat(panel: Panel) -> stat.Panel:
    made = stat.Panel().title(panel.title).description(panel.meaning).datasource(_SOURCE).unit(panel.unit)
    made = made.height(4).span(6).color_mode(BigValueColorMode.BACKGROUND).thresholds(_thresholds(panel))
    made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    for query in panel.queries:
        made = made.with_target(prometheus.Dataquery().expr(query.expr).instant().ref_id("A"))
    return made


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    if panel.bad is None:
        steps = [Threshold(value=None, color="blue")]
    elif panel.bad_is_low:
        steps = [Threshold(value=None, color="red"), Threshold(value=panel.bad + 1, color="green")]
    else:
        steps = [Threshold(value=None, color="green"), Threshold(value=panel.bad, color="red")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().title(panel.title).description(panel.meaning).datasource(_SOURCE).unit(panel.unit)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = made.height(8).span(12).min(0).draw_style(GraphDrawStyle.LINE).fill_opacity(10)
    made = made.legend(legend.show_legend(True))
    for letter, query in zip("ABCD", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).range().ref_id(letter).legend_format(query.legend)
        made = made.with_target(target)
    return made


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
        print(path)
