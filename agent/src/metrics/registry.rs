//! The agent's own families, from the `prometheus` registry onto the page.

use crate::metrics::exposition::{Kind, Page};
use prometheus::Registry;
use prometheus::proto::{Metric, MetricType};

/// Adds all families of `registry`, sorted in with the others at the end.
pub fn write(page: &mut Page, registry: &Registry) {
    for gathered in registry.gather() {
        let kind = match gathered.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            MetricType::SUMMARY => Kind::Summary,
            MetricType::UNTYPED => Kind::Untyped,
        };
        let mut family = page.family(gathered.name(), kind, gathered.help());
        for metric in gathered.get_metric() {
            let labels: Vec<(&str, &str)> = metric
                .get_label()
                .iter()
                .map(|label| (label.name(), label.value()))
                .collect();
            match kind {
                Kind::Counter => family.sample(&labels, metric.get_counter().get_value()),
                Kind::Gauge => family.sample(&labels, metric.get_gauge().get_value()),
                Kind::Histogram => {
                    for (bound, count) in buckets(metric) {
                        let mut labels = labels.clone();
                        labels.push(("le", &bound));
                        family.suffixed("_bucket", &labels, count);
                    }
                    let histogram = metric.get_histogram();
                    family.suffixed("_sum", &labels, histogram.get_sample_sum());
                    family.suffixed("_count", &labels, histogram.get_sample_count());
                }
                // Nothing in this house makes these two.
                Kind::Summary | Kind::Untyped => {}
            }
        }
    }
}

/// Upper bounds as text with their cumulative counts, `+Inf` last.
fn buckets(metric: &Metric) -> Vec<(String, u64)> {
    let histogram = metric.get_histogram();
    let mut buckets: Vec<(String, u64)> = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound().is_finite())
        .map(|bucket| (bucket.upper_bound().to_string(), bucket.cumulative_count()))
        .collect();
    buckets.push(("+Inf".to_owned(), histogram.get_sample_count()));
    buckets
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::metrics::exposition::Page;
    use crate::metrics::tests::{expect, parse};
    use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

    #[test]
    fn counters_gauges_and_histograms_come_over_whole() {
        let registry = Registry::new();
        let restarts = IntCounterVec::new(
            Opts::new("agent_container_restarts_total", "Restarts."),
            &["container", "reason"],
        )
        .unwrap();
        let ready = IntGauge::new("agent_ready", "Ready.").unwrap();
        let options = HistogramOpts::new("agent_sync_seconds", "Sync.").buckets(vec![0.5, 1.0]);
        let sync = Histogram::with_opts(options).unwrap();
        registry.register(Box::new(restarts.clone())).unwrap();
        registry.register(Box::new(ready.clone())).unwrap();
        registry.register(Box::new(sync.clone())).unwrap();
        restarts.with_label_values(&["app", "exit"]).inc_by(3);
        ready.set(-2);
        sync.observe(0.25);
        sync.observe(7.0);

        let mut page = Page::default();
        write(&mut page, &registry);
        let pages = parse(&page);
        let labels = [("container", "app"), ("reason", "exit")];
        expect(&pages, "agent_container_restarts_total", &labels, 3.0);
        expect(&pages, "agent_ready", &[], -2.0);
        for (le, count) in [("0.5", 1.0), ("1", 1.0), ("+Inf", 2.0)] {
            let labels = [("__suffix", "_bucket"), ("le", le)];
            expect(&pages, "agent_sync_seconds", &labels, count);
        }
        expect(&pages, "agent_sync_seconds", &[("__suffix", "_sum")], 7.25);
        expect(&pages, "agent_sync_seconds", &[("__suffix", "_count")], 2.0);
    }
}
