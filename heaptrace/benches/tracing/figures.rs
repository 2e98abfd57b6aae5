//! Arithmetic on measured series.

use anyhow::{Context as _, Result};
use std::env;

/// How many rounds to take medians of.
pub fn rounds() -> Result<usize> {
    match env::var("HEAPTRACE_BENCH_ROUNDS") {
        Ok(text) => text.parse().context("HEAPTRACE_BENCH_ROUNDS is no number"),
        Err(_) => Ok(7),
    }
}

/// The middle value; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0
}

/// `median (smallest to largest)`, in whole numbers.
pub fn spread(values: &[f64]) -> String {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = if largest < 100.0 { 1 } else { 0 };
    format!("{:.digits$} ({smallest:.digits$} to {largest:.digits$})", median(values))
}

/// The median of the ratios, taken round by round: what disturbs a round disturbs both.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&ratios)
}
