//! A run as a picture: four courses over time, as SVG.

use std::fmt::Write as _;

use crate::heat::controller::Kind;
use crate::heat::run::Point;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const PANEL: f64 = 120.0;
const GAP: f64 = 34.0;
const TOP: f64 = 58.0;
/// One for each controller, told apart also by those who see no red or green.
const COLOURS: [&str; 7] =
    ["#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#666666"];

/// A panel: its title, its unit's range, and what it shows of a point.
struct Panel {
    title: &'static str,
    low: f64,
    high: f64,
    of: fn(&Point) -> f64,
}

/// Draws the courses of several controllers in one cell.
#[must_use]
pub fn draw(title: &str, courses: &[(Kind, Vec<Point>)]) -> String {
    let most = |of: fn(&Point) -> f64| {
        let all = courses.iter().flat_map(|(_, points)| points).map(of);
        all.fold(1.0, f64::max) * 1.05
    };
    let panels = [
        Panel { title: "temperature, °C", low: 20.0, high: 106.0, of: |point| point.celsius },
        Panel {
            title: "power, W",
            low: 0.0,
            high: most(|point| point.watts),
            of: |point| point.watts,
        },
        Panel { title: "limits, 1 is full power", low: 0.0, high: 1.05, of: |point| point.share },
        Panel {
            title: "GPU clock, share of the highest",
            low: 0.0,
            high: 1.05,
            of: |point| point.clock,
        },
        Panel {
            title: "tokens/s",
            low: 0.0,
            high: most(|point| point.tokens_per_s),
            of: |point| point.tokens_per_s,
        },
    ];
    let end =
        courses.iter().flat_map(|(_, points)| points).map(|point| point.at).fold(1.0, f64::max);
    let height = TOP + panels.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}</text>\n"
    );
    for (index, (kind, _)) in courses.iter().enumerate() {
        let x = LEFT + index as f64 * 108.0;
        let colour = COLOURS[*kind as usize % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"41\">{}</text>",
            x + 14.0,
            kind.name()
        );
    }
    for (index, panel) in panels.iter().enumerate() {
        draw_panel(panel, TOP + index as f64 * (PANEL + GAP), end, courses, &mut svg);
    }
    svg + "</svg>\n"
}

fn draw_panel(panel: &Panel, top: f64, end: f64, courses: &[(Kind, Vec<Point>)], svg: &mut String) {
    let Panel { title, low, high, of } = panel;
    let right = WIDTH - 12.0;
    let x = |at: f64| LEFT + (right - LEFT) * at / end;
    let y = |value: f64| top + PANEL - PANEL * ((value - low) / (high - low)).clamp(0.0, 1.0);
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top + 10.0);
    for step in 0..=4 {
        let value = low + (high - low) * f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#555\">{value:.1}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    for step in 0..=6 {
        let at = end * f64::from(step) / 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{:.0} min</text>",
            x(at),
            top + PANEL + 14.0,
            at / 60.0
        );
    }
    for (kind, points) in courses {
        let line: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.at), y(of(point)))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\" points=\"{}\"/>",
            COLOURS[*kind as usize % COLOURS.len()],
            line.join(" ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_line_for_each_course_and_panel() {
        let point = |at| Point {
            at,
            celsius: 60.0,
            watts: 9.0,
            share: 1.0,
            clock: 1.0,
            tokens_per_s: 20.0,
        };
        let courses = [(Kind::Governor, vec![point(10.0), point(20.0)]), (Kind::Pid, vec![])];
        let svg = draw("a board", &courses);
        assert_eq!(svg.matches("<polyline").count(), 10);
        assert!(svg.contains("64.0,") || svg.contains(" min</text>"));
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
}
