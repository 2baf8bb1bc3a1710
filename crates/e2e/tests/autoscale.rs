//! An autoscaler over real figures: a busy Pod gets a second one beside it, and is alone again when both are idle.

use anyhow::{Result, ensure};
use e2e::pods::LIMIT;
use e2e::{Lab, LabOptions, wait_for};
use serde_json::Value;

/// Busy until `/idle` is there. The behaviour lets go at once, so that nobody waits for five minutes.
const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: mill}
spec:
  selector: {matchLabels: {app: mill}}
  template:
    metadata: {labels: {app: mill}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox
        command: [sh, -c, 'while ! [ -e /idle ]; do :; done; exec sleep 3600']
        resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: mill}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: mill}
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 15}]}}
"#;

#[test]
fn a_busy_pod_gets_company() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(OBJECTS)?;
    let autoscaler = || -> Result<Value> {
        let text = lab.kubectl(&["get", "hpa", "mill", "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    };
    let pods = || -> Result<Vec<String>> {
        let text = lab.kubectl(&[
            "get",
            "pods",
            "-l",
            "app=mill",
            "--field-selector=status.phase=Running",
            "-o",
            "name",
        ])?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    wait_for("a second Pod", LIMIT, || {
        let all = pods()?;
        ensure!(all.len() == 2, "{all:?} {}", autoscaler()?);
        Ok(())
    })?;
    lab.wait_event(
        "mill",
        "SuccessfulRescale: New size: 2; reason: cpu resource utilization (percentage of request) above target",
    )?;
    wait_for("figures of both", LIMIT, || {
        let status = autoscaler()?["status"].clone();
        let percent = &status["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
        let is_busy = percent.as_i64().is_some_and(|percent| percent > 55);
        ensure!(status["currentReplicas"] == 2 && is_busy, "{status}");
        Ok(())
    })?;
    for pod in pods()? {
        lab.kubectl(&["exec", &pod, "--", "touch", "/idle"])?;
    }
    wait_for("one Pod again", LIMIT, || {
        let all = pods()?;
        ensure!(all.len() == 1, "{all:?} {}", autoscaler()?);
        Ok(())
    })?;
    lab.kubectl(&["delete", "hpa,deployment", "mill"])?;
    lab.leaves_nothing(&before)?;
    lab.stop()
}
