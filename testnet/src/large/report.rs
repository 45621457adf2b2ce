//! Measurements as a table for people and as a plot: one line for each cost, both axes logarithmic.
//!
//! A cost that grows as the number of files has the slope of the dashed lines; the table gives the exponent, and 1.00 is
//! linear.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use zerocloud::cli::count;

use super::process::percentile;
use super::{History, Measured, SparseMeasured, TreeMeasured};

/// A cost of which the growth is shown.
struct Row {
    name: &'static str,
    unit: Unit,
    value: fn(&TreeMeasured) -> Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Bytes,
}

const ROWS: [Row; 17] = [
    Row { name: "first scan", unit: Unit::Seconds, value: |it| wall(it, "first scan") },
    Row { name: "first scan, CPU", unit: Unit::Seconds, value: |it| cpu(it, "first scan", 0) },
    Row { name: "first sync", unit: Unit::Seconds, value: |it| wall(it, "first sync") },
    Row { name: "first sync, CPU of the sender", unit: Unit::Seconds, value: |it| cpu(it, "first sync", 0) },
    Row { name: "first sync, CPU of the receiver", unit: Unit::Seconds, value: |it| cpu(it, "first sync", 1) },
    Row { name: "scan without changes", unit: Unit::Seconds, value: |it| wall(it, "scan without changes") },
    Row { name: "scan without changes, CPU", unit: Unit::Seconds, value: |it| cpu(it, "scan without changes", 0) },
    Row { name: "start until it answers", unit: Unit::Seconds, value: |it| wall(it, "start until it answers") },
    Row { name: "start until it is idle", unit: Unit::Seconds, value: |it| wall(it, "start until it is idle") },
    Row { name: "one edit, p50", unit: Unit::Seconds, value: |it| edit(it, 50) },
    Row { name: "one edit, p99", unit: Unit::Seconds, value: |it| edit(it, 99) },
    Row {
        name: "memory after the first scan",
        unit: Unit::Bytes,
        value: |it| cost(it, "first scan", 0, |cost| cost.resident_len),
    },
    Row {
        name: "its peak in the first scan",
        unit: Unit::Bytes,
        value: |it| cost(it, "first scan", 0, |cost| cost.peak_len),
    },
    Row {
        name: "its peak in the first sync, receiver",
        unit: Unit::Bytes,
        value: |it| cost(it, "first sync", 1, |cost| cost.peak_len),
    },
    Row {
        name: "memory after a restart",
        unit: Unit::Bytes,
        value: |it| cost(it, "start until it is idle", 0, |cost| cost.resident_len),
    },
    Row {
        name: "of that, no file's (RssAnon)",
        unit: Unit::Bytes,
        value: |it| cost(it, "start until it is idle", 0, |cost| cost.anonymous_len),
    },
    Row {
        name: "home, nearly all index",
        unit: Unit::Bytes,
        value: |it| cost(it, "start until it is idle", 0, |cost| cost.home_len),
    },
];

fn cost(measured: &TreeMeasured, step: &str, device: usize, of: fn(&super::Cost) -> u64) -> Option<f64> {
    let step = measured.steps.iter().find(|known| known.name == step)?;
    Some(of(step.costs.get(device)?) as f64)
}

fn cpu(measured: &TreeMeasured, step: &str, device: usize) -> Option<f64> {
    let step = measured.steps.iter().find(|known| known.name == step)?;
    Some(step.costs.get(device)?.cpu_secs)
}

fn wall(measured: &TreeMeasured, step: &str) -> Option<f64> {
    measured.steps.iter().find(|known| known.name == step).map(|step| step.wall_secs)
}

fn edit(measured: &TreeMeasured, percent: usize) -> Option<f64> {
    let times: Vec<Duration> = measured.edit_ms.iter().map(|ms| Duration::from_secs_f64(ms / 1_000.0)).collect();
    percentile(&times, percent).map(|time| time.as_secs_f64())
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 1.0 => format!("{:.0} ms", value * 1_000.0),
        Unit::Seconds if value < 100.0 => format!("{value:.1} s"),
        Unit::Seconds => format!("{value:.0} s"),
        Unit::Bytes => format!("{:.0} MiB", value / f64::from(1 << 20)),
    }
}

/// Trees by their number of files; those of one directory apart. Of several of one size the last counts.
fn trees(all: &[Measured], is_flat: bool) -> Vec<&TreeMeasured> {
    let trees = all.iter().filter_map(|measured| match measured {
        Measured::Tree(tree) if (tree.directory_count == 0) == is_flat => Some((tree.file_count, tree)),
        _ => None,
    });
    trees.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The exponent by which a cost grows from one size to another: 1 is linear.
fn growth((small, of_small): (f64, f64), (large, of_large): (f64, f64)) -> Option<f64> {
    let is_positive = small > 0.0 && large > small && of_small > 0.0 && of_large > 0.0;
    is_positive.then(|| (of_large / of_small).ln() / (large / small).ln())
}

/// What was measured, as tables in Markdown.
pub fn table(all: &[Measured]) -> String {
    let mut text = String::new();
    for (is_flat, what) in [(false, "files"), (true, "files in one directory")] {
        let trees = trees(all, is_flat);
        if !trees.is_empty() {
            text += &table_of(&trees, what);
        }
    }
    for measured in all {
        match measured {
            Measured::History(history) => text += &history_lines(history),
            Measured::Sparse(sparse) => text += &sparse_lines(sparse),
            Measured::Tree(_) => {}
        }
    }
    text
}

fn table_of(trees: &[&TreeMeasured], what: &str) -> String {
    let mut text = format!("| {what} |");
    trees.iter().for_each(|tree| text += &format!(" {} |", count(tree.file_count)));
    text += " grows as n to the |\n|---|";
    trees.iter().for_each(|_| text += "---|");
    text += "---|\n";
    for Row { name, unit, value } in &ROWS {
        let values: Vec<Option<f64>> = trees.iter().map(|tree| value(tree)).collect();
        let _ = write!(text, "| {name} |");
        values
            .iter()
            .for_each(|value| text += &format!(" {} |", value.map_or_else(String::new, |value| shown(value, *unit))));
        let points: Vec<(f64, f64)> =
            trees.iter().zip(&values).filter_map(|(tree, value)| Some((tree.file_count as f64, (*value)?))).collect();
        let steps = points.windows(2).filter_map(|pair| growth(pair[0], pair[1]));
        let steps: Vec<String> = steps.map(|step| format!("{step:.2}")).collect();
        let _ = writeln!(text, " {} |", steps.join(", "));
    }
    text + "\n"
}

fn history_lines(history: &History) -> String {
    let History { what, append_secs, apply_secs, anonymous_len, .. } = history;
    let per_edit = |secs: f64| secs * 1e6 / history.edit_count.max(1) as f64;
    let mib = |len: u64| len >> 20;
    format!(
        "{} edits of {} files in {} entries ({what}): written in {:.1} s ({:.0} µs of CPU each, the last tenth in {:.1} s), \
         applied by the other in {:.1} s ({:.0} µs of CPU each); {} MiB were sent; the store has {} MiB, {} MiB compacted, \
         and opens in {:.2} s; memory {} MiB before, {} with the writer, {} with both, {} at most.\n\n",
        count(history.edit_count),
        count(history.file_count),
        count(history.entry_count),
        append_secs[0],
        per_edit(append_secs[1]),
        history.last_append_secs,
        apply_secs[0],
        per_edit(apply_secs[1]),
        mib(history.sent_len),
        mib(history.store_len),
        mib(history.compact_len),
        history.open_secs,
        mib(anonymous_len[0]),
        mib(anonymous_len[1]),
        mib(anonymous_len[2]),
        mib(history.peak_len),
    )
}

fn sparse_lines(sparse: &SparseMeasured) -> String {
    let mib = |len: u64| count(len >> 20);
    let steps = sparse.steps.iter().map(|step| {
        let cpu: Vec<String> =
            step.costs.iter().map(|cost| format!("{}: {:.1} s", cost.device, cost.cpu_secs)).collect();
        format!("{} {:.1} s (CPU {})", step.name, step.wall_secs, cpu.join(", "))
    });
    format!(
        "A file of {} MiB with {} MiB of data, which takes {} MiB on the disk: {}; the copy is the same and takes {} MiB.\n\n",
        mib(sparse.len),
        mib(sparse.data_len),
        mib(sparse.allocated_len),
        steps.collect::<Vec<_>>().join(", "),
        mib(sparse.copy_allocated_len),
    )
}

/// Width and height of one plot, and what is left around it for its labels, in pixels.
const PLOT: (f64, f64) = (420.0, 420.0);
const MARGIN: (f64, f64) = (70.0, 40.0);
/// Room for the names of lines beside a plot, in pixels.
const LEGEND: f64 = 260.0;
const COLOURS: [&str; 11] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22",
    "#000000",
];

/// What was measured of trees, as two plots: times and sizes.
pub fn plot(all: &[Measured]) -> String {
    let trees = trees(all, false);
    let (width, height) = (PLOT.0 + MARGIN.0 + LEGEND, PLOT.1 + 2.0 * MARGIN.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * width
    );
    for (at, (unit, title)) in [(Unit::Seconds, "seconds"), (Unit::Bytes, "MiB")].into_iter().enumerate() {
        let scale = if unit == Unit::Bytes { f64::from(1 << 20) } else { 1.0 };
        let lines: Vec<(&str, Vec<(f64, f64)>)> = ROWS
            .iter()
            .filter(|row| row.unit == unit)
            .map(|row| {
                let points = trees.iter().filter_map(|tree| Some((tree.file_count as f64, (row.value)(tree)? / scale)));
                (row.name, points.filter(|(_, value)| *value > 0.0).collect())
            })
            .collect();
        let _ = writeln!(svg, "<g transform=\"translate({:.0} 0)\">", at as f64 * width);
        svg += &one_plot(title, &lines);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// The powers of ten around values; one decade at least.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (i32, i32) {
    let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values.fold(0.0, f64::max).log10().ceil();
    if !(low.is_finite() && high.is_finite()) {
        return (0, 1);
    }
    // Decades of what fits a machine are few.
    let (low, high) = (low as i32, high as i32);
    (low, high.max(low + 1))
}

fn one_plot(title: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> String {
    let points = lines.iter().flat_map(|(_, points)| points);
    let (x_low, x_high) = decades(points.clone().map(|(x, _)| *x));
    let (y_low, y_high) = decades(points.map(|(_, y)| *y));
    let x_at = |x: f64| MARGIN.0 + (x.log10() - f64::from(x_low)) / f64::from(x_high - x_low) * PLOT.0;
    let y_at = |y: f64| MARGIN.1 + (f64::from(y_high) - y.log10()) / f64::from(y_high - y_low) * PLOT.1;
    let ((left, top), (right, bottom)) = (MARGIN, (MARGIN.0 + PLOT.0, MARGIN.1 + PLOT.1));
    let mut svg = format!("<text x=\"{left}\" y=\"{:.0}\">{title} by number of files</text>\n", top - 12.0);
    for power in x_low..=x_high {
        let x = x_at(10f64.powi(power));
        let _ = writeln!(svg, "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
        let label = count(10f64.powi(power) as u64);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 16.0);
    }
    for power in y_low..=y_high {
        let y = y_at(10f64.powi(power));
        let _ = writeln!(svg, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        let label = if power < 0 {
            format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power))
        } else {
            count(10f64.powi(power) as u64)
        };
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, y + 4.0);
    }
    // What is linear runs as these.
    for power in y_low - (x_high - x_low)..y_high {
        let from = (f64::from(x_low), f64::from(power));
        let begin = (f64::from(y_low) - from.1).max(0.0);
        let end = f64::from(x_high - x_low).min(f64::from(y_high) - from.1);
        let [a, b] = [begin, end].map(|step| (x_at(10f64.powf(from.0 + step)), y_at(10f64.powf(from.1 + step))));
        if begin < end {
            let _ = writeln!(
                svg,
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#bbb\" stroke-dasharray=\"3 4\"/>",
                a.0, a.1, b.0, b.1
            );
        }
    }
    for (n, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1} {:.1}", x_at(*x), y_at(*y))).collect();
        if !path.is_empty() {
            let path = path.join("L");
            let _ = writeln!(svg, "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        }
        for (x, y) in points {
            let _ =
                writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>", x_at(*x), y_at(*y));
        }
        let y = top + 14.0 * (n as f64 + 1.0);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>", right + 12.0);
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::large::{Cost, Step};

    fn tree(file_count: u64, cpu_secs: f64) -> Measured {
        let cost = Cost {
            device: "a".to_owned(),
            cpu_secs,
            resident_len: 50 << 20,
            peak_len: 60 << 20,
            anonymous_len: 40 << 20,
            thread_count: 20,
            handle_count: 30,
            home_len: file_count << 10,
        };
        let step = Step { name: "first scan".to_owned(), wall_secs: cpu_secs * 2.0, costs: vec![cost] };
        let edit_ms = (1..=100).map(f64::from).collect();
        let (directory_count, content_len) = (file_count / 50, file_count * 900);
        Measured::Tree(TreeMeasured { file_count, directory_count, content_len, steps: vec![step], edit_ms })
    }

    #[test]
    fn a_table_says_by_which_power_a_cost_grows() {
        let all = [tree(100_000, 100.0), tree(10_000, 1.0)];
        let table = table(&all);
        assert!(table.starts_with("| files | 10,000 | 100,000 | grows as n to the |\n|---|---|---|---|\n"), "{table}");
        assert!(table.contains("| first scan, CPU | 1.0 s | 100 s | 2.00 |\n"), "{table}");
        assert!(table.contains("| one edit, p99 | 99 ms | 99 ms | 0.00 |\n"), "{table}");
        assert!(table.contains("| first sync |  |  |  |\n"), "what was not measured is left out: {table}");
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Measured>>(&json).unwrap(), all);
    }

    #[test]
    fn a_plot_has_a_line_for_each_cost() {
        let svg = plot(&[tree(10_000, 1.0), tree(100_000, 100.0), tree(1_000_000, 1_000.0)]);
        assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 6, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 18);
        assert!(svg.contains(">1,000,000</text>") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // Nothing measured is no plot of nonsense.
        assert!(!plot(&[]).contains("NaN"));
    }
}
