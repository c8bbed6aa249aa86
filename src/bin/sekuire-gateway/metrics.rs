//! What the layer counts, kept for `GET /metrics` in the form that Prometheus reads.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Installs the recorder, and keeps its memory bounded on the present runtime. Before the first call: what is counted
/// earlier is counted nowhere.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full("sekuire_answer_duration_seconds".to_owned()),
            &ANSWERS,
        )?
        .set_buckets_for_metric(
            Matcher::Full("sekuire_inspection_seconds".to_owned()),
            &INSPECTION,
        )?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    tower_sekuire::describe_metrics();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        // Until somebody asks, each measured time is kept as it is; this adds them up.
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Models answer within seconds or think for minutes.
const ANSWERS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// From a frame of a stream to a form of many megabytes.
const INSPECTION: [f64; 11] = [
    2.5e-7, 1e-6, 2.5e-6, 1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 0.1, 1.0,
];

const UPKEEP: Duration = Duration::from_secs(5);
