//! Workloads from the wish to the Pods and back, against a real API server.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Plane, template};
use controllers::obj::{condition, int, meta, text};
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "deployments.apps";

fn deployment(name: &str, replicas: i64, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, image)}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_scales_and_goes() {
    let plane = Plane::start(&["host-1"]).await;
    let made = plane.create(DEPLOYMENTS, deployment("web", 3, "one")).await;
    let ready = |n: i64, image: &'static str| {
        move |w: &controllers::world::World| {
            let d = w.get(DEPLOYMENTS, "default", "web")?;
            let pods = w.list("pods", "default");
            let right =
                pods.len() as i64 == n && pods.iter().all(|p| text(p, "/spec/containers/0/image") == image);
            let told = int(&d, "/status/availableReplicas", 0) == n
                && int(&d, "/status/updatedReplicas", 0) == n
                && d["status"]["observedGeneration"] == d["metadata"]["generation"];
            (right && told).then_some(d)
        }
    };
    let first = plane.until("first roll-out", ready(3, "one")).await;
    assert_eq!(
        condition(&first, "Progressing").unwrap()["reason"],
        "NewReplicaSetAvailable"
    );
    assert_eq!(
        first["metadata"]["generation"], 1,
        "its revision is shown beside its status"
    );

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}});
    plane.world.patch(DEPLOYMENTS, &made, "", &patch).await.unwrap();
    let second = plane.until("second roll-out", ready(3, "two")).await;
    assert_eq!(
        text(
            &second,
            "/metadata/annotations/deployment.kubernetes.io~1revision"
        ),
        "2"
    );
    assert_eq!(
        plane.world.list("replicasets.apps", "default").len(),
        2,
        "the old set stays for a rollback"
    );

    // A rollback gives the old set the highest number and keeps its earlier ones; what the Deployment says, its set says.
    let back = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "back"}},
        "spec": {"minReadySeconds": 1, "template": template("web", "one")}});
    plane.world.patch(DEPLOYMENTS, &made, "", &back).await.unwrap();
    let set = plane
        .until("the rollback", |w| {
            let sets = w.list("replicasets.apps", "default");
            sets.into_iter()
                .find(|s| s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3")
        })
        .await;
    let annotations = &set["metadata"]["annotations"];
    assert_eq!(
        (
            &annotations["deployment.kubernetes.io/revision-history"],
            &annotations["kubernetes.io/change-cause"],
            &set["spec"]["minReadySeconds"],
        ),
        (&json!("1"), &json!("back"), &json!(1))
    );
    plane.until("third roll-out", ready(3, "one")).await;

    plane
        .world
        .patch(DEPLOYMENTS, &made, "", &json!({"spec": {"replicas": 1}}))
        .await
        .unwrap();
    plane.until("scaled", ready(1, "one")).await;

    plane
        .world
        .delete(DEPLOYMENTS, &second, "Background")
        .await
        .unwrap();
    plane
        .until("nothing left", |w| {
            (w.list("replicasets.apps", "default").is_empty() && w.list("pods", "default").is_empty())
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_count_every_end_once() {
    let plane = Plane::start(&["host-1"]).await;
    let job = |name: &str, image: &str, more: Value| {
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            job["spec"][key] = value.clone();
        }
        job
    };
    plane
        .create(
            "jobs.batch",
            job("good", "ok", json!({"completions": 5, "parallelism": 2})),
        )
        .await;
    plane
        .create(
            "jobs.batch",
            job(
                "numbered",
                "ok",
                json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}),
            ),
        )
        .await;
    plane
        .create("jobs.batch", job("bad", "bad", json!({"backoffLimit": 0})))
        .await;
    plane
        .create(
            "jobs.batch",
            job("brief", "ok", json!({"ttlSecondsAfterFinished": 0})),
        )
        .await;
    let ended = |name: &'static str, kind: &'static str| {
        move |w: &controllers::world::World| {
            let job = w.get("jobs.batch", "default", name)?;
            condition(&job, kind).filter(|c| c["status"] == "True")?;
            Some(job)
        }
    };
    let good = plane.until("good", ended("good", "Complete")).await;
    assert_eq!(good["status"]["succeeded"], 5);
    let numbered = plane.until("numbered", ended("numbered", "Complete")).await;
    assert_eq!(numbered["status"]["completedIndexes"], "0-2");
    let bad = plane.until("bad", ended("bad", "Failed")).await;
    assert_eq!(bad["status"]["failed"], 1);
    assert_eq!(
        condition(&bad, "Failed").unwrap()["reason"],
        "BackoffLimitExceeded"
    );
    plane
        .until("brief", |w| {
            let gone = w.get("jobs.batch", "default", "brief").is_none();
            let pods = w.list("pods", "default");
            (gone && !pods.iter().any(|p| meta(p, "name").starts_with("brief"))).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_and_daemon_sets_roll_out() {
    let plane = Plane::start(&["host-1", "host-2"]).await;
    let set = |kind: &str, name: &str, more: Value| {
        let mut set = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default",
                "annotations": {"kubernetes.io/change-cause": name}},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, "one")}});
        for (key, value) in more.as_object().into_iter().flatten() {
            set["spec"][key] = value.clone();
        }
        set
    };
    let claim = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    let db = set(
        "StatefulSet",
        "db",
        json!({"replicas": 2, "serviceName": "db", "volumeClaimTemplates": claim}),
    );
    let db = plane.create("statefulsets.apps", db).await;
    let every = plane
        .create("daemonsets.apps", set("DaemonSet", "every", json!({})))
        .await;
    let settled = |key: &'static str, name: &'static str, image: &'static str, fields: [&'static str; 2]| {
        move |w: &controllers::world::World| {
            let set = w.get(key, "default", name)?;
            let mut pods = w.list("pods", "default");
            pods.retain(|p| text(p, "/metadata/labels/app") == name);
            let right = pods.len() == 2 && pods.iter().all(|p| text(p, "/spec/containers/0/image") == image);
            (right && fields.iter().all(|f| set["status"][*f] == 2)).then_some(pods)
        }
    };
    let of_db = ["readyReplicas", "updatedReplicas"];
    let of_every = ["numberAvailable", "updatedNumberScheduled"];
    let pods = plane
        .until("db", settled("statefulsets.apps", "db", "one", of_db))
        .await;
    assert_eq!(
        pods.iter().map(|p| meta(p, "name")).collect::<Vec<_>>(),
        ["db-0", "db-1"]
    );
    assert_eq!(text(&pods[1], "/spec/hostname"), "db-1");
    assert!(
        plane
            .world
            .get("persistentvolumeclaims", "default", "data-db-1")
            .is_some()
    );
    let pods = plane
        .until("every", settled("daemonsets.apps", "every", "one", of_every))
        .await;
    let mut nodes: Vec<&str> = pods.iter().map(|p| text(p, "/spec/nodeName")).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["host-1", "host-2"]);

    // Revisions say what their owner said.
    let mut causes: Vec<String> = plane
        .world
        .list("controllerrevisions.apps", "default")
        .iter()
        .map(|r| text(r, "/metadata/annotations/kubernetes.io~1change-cause").to_owned())
        .collect();
    causes.sort_unstable();
    assert_eq!(causes, ["db", "every"]);

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}});
    plane
        .world
        .patch("statefulsets.apps", &db, "", &patch)
        .await
        .unwrap();
    plane
        .world
        .patch("daemonsets.apps", &every, "", &patch)
        .await
        .unwrap();
    plane
        .until("new db", settled("statefulsets.apps", "db", "two", of_db))
        .await;
    plane
        .until("new every", settled("daemonsets.apps", "every", "two", of_every))
        .await;
}

#[tokio::test]
async fn a_day_that_never_comes_is_told() {
    let plane = Plane::start(&[]).await;
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "never", "namespace": "default"},
        "spec": {"schedule": "59 23 31 2 *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "ok"}]}}}}}});
    plane.create("cronjobs.batch", cron).await;
    let message = plane
        .until("the event", |w| {
            let events = w.list("events", "default");
            let found = events.iter().find(|e| text(e, "/reason") == "InvalidSchedule")?;
            Some(text(found, "/message").to_owned())
        })
        .await;
    let why = "time difference between two schedules is less than 1 second";
    assert_eq!(message, format!("invalid schedule: 59 23 31 2 * : {why}"));
}

#[tokio::test]
async fn a_job_that_somebody_took_away_is_told() {
    let plane = Plane::start(&[]).await;
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "rare", "namespace": "default"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "ok"}]}}}}}});
    let cron = plane.create("cronjobs.batch", cron).await;
    let active = json!({"active": [{"apiVersion": "batch/v1", "kind": "Job", "namespace": "default", "name": "gone", "uid": "u"}]});
    plane
        .world
        .update_status("cronjobs.batch", &cron, &active)
        .await
        .unwrap();
    let message = plane
        .until("the event", |w| {
            let events = w.list("events", "default");
            let found = events.iter().find(|e| text(e, "/reason") == "MissingJob")?;
            Some(text(found, "/message").to_owned())
        })
        .await;
    assert_eq!(message, "Active job went missing: gone");
    plane
        .until("no active Job", |w| {
            let cron = w.get("cronjobs.batch", "default", "rare")?;
            cron["status"]["active"].is_null().then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_orphan_of_the_same_template_is_taken_in() {
    let plane = Plane::start(&["host-1"]).await;
    let template = common::template("web", "v1");
    let selector = json!({"matchLabels": {"app": "web"}});
    let object = |kind: &str, name: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"replicas": 1, "selector": selector, "template": template}})
    };
    plane
        .create("replicasets.apps", object("ReplicaSet", "orphan"))
        .await;
    plane
        .create("deployments.apps", object("Deployment", "web"))
        .await;
    plane
        .until("available", |w| {
            let web = w.get("deployments.apps", "default", "web")?;
            (web["status"]["availableReplicas"] == 1).then_some(())
        })
        .await;
    let sets = plane.world.list("replicasets.apps", "default");
    let names: Vec<&str> = sets.iter().map(|set| meta(set, "name")).collect();
    assert_eq!(names, ["orphan"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_becomes_the_controller_again() {
    let plane = Plane::start(&["host-1"]).await;
    plane.create(DEPLOYMENTS, deployment("web", 1, "one")).await;
    let only = |key: &'static str| {
        move |w: &controllers::world::World| match &w.list(key, "default")[..] {
            [one] if one["metadata"]["ownerReferences"][0]["controller"] == true => Some(one.clone()),
            _ => None,
        }
    };
    plane
        .until("available", |w| {
            let web = w.get(DEPLOYMENTS, "default", "web")?;
            (web["status"]["availableReplicas"] == 1).then_some(())
        })
        .await;
    for key in ["replicasets.apps", "pods"] {
        let before = plane.until(key, only(key)).await;
        let mut owner = before["metadata"]["ownerReferences"][0].clone();
        owner["controller"] = json!(false);
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        let freed = plane.world.patch(key, &before, "", &patch).await.unwrap();
        let name = meta(&before, "name").to_owned();
        let after = plane
            .until("adopted", |w| {
                let now = w.get(key, "default", &name)?;
                let moved = now["metadata"]["resourceVersion"] != freed["metadata"]["resourceVersion"];
                (moved && controllers::obj::controller_of(&now).is_some()).then_some(now)
            })
            .await;
        assert_eq!(
            after["metadata"]["ownerReferences"], before["metadata"]["ownerReferences"],
            "{key}"
        );
        assert_eq!(
            meta(&*plane.until(key, only(key)).await, "uid"),
            meta(&before, "uid")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relabelled_set_leaves_its_deployment_and_comes_back() {
    let plane = Plane::start(&["host-1"]).await;
    plane.create(DEPLOYMENTS, deployment("web", 1, "one")).await;
    let sets = |controlled: usize, free: usize| {
        move |w: &controllers::world::World| {
            let sets = w.list("replicasets.apps", "default");
            let owned = sets
                .iter()
                .filter(|s| controllers::obj::controller_of(s).is_some())
                .count();
            (owned == controlled && sets.len() - owned == free).then_some(sets)
        }
    };
    let first = plane.until("the first", sets(1, 0)).await.remove(0);
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    plane
        .world
        .patch("replicasets.apps", &first, "", &labels(json!({"app": "other"})))
        .await
        .unwrap();
    let both = plane.until("another beside the free one", sets(1, 1)).await;
    let free = both
        .iter()
        .find(|s| meta(s, "uid") == meta(&first, "uid"))
        .unwrap();
    assert!(controllers::obj::controller_of(free).is_none());
    plane
        .world
        .patch("replicasets.apps", free, "", &labels(json!({"app": "web"})))
        .await
        .unwrap();
    plane.until("both", sets(2, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_pods_takes_over_their_revision() {
    let plane = Plane::start(&["host-1"]).await;
    for (key, kind, more) in [
        (
            "statefulsets.apps",
            "StatefulSet",
            json!({"replicas": 1, "serviceName": "db"}),
        ),
        ("daemonsets.apps", "DaemonSet", json!({})),
    ] {
        let name = kind.to_lowercase();
        let mut set = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(&name, "one")}});
        for (field, value) in more.as_object().into_iter().flatten() {
            set["spec"][field] = value.clone();
        }
        let belong = |uid: String| {
            move |w: &controllers::world::World| {
                let mut all = w.list("pods", "default");
                all.extend(w.list("controllerrevisions.apps", "default"));
                all.retain(|o| controllers::obj::controlled_by(o, &uid));
                let running = all
                    .iter()
                    .all(|o| o["kind"] != "Pod" || o["status"]["phase"] == "Running");
                let mut uids: Vec<String> = all.iter().map(|o| meta(o, "uid").to_owned()).collect();
                uids.sort_unstable();
                (running && uids.len() == 2).then_some(uids)
            }
        };
        let first = plane.create(key, set.clone()).await;
        let before = plane.until(kind, belong(meta(&first, "uid").into())).await;
        plane.world.delete(key, &first, "Orphan").await.unwrap();
        plane
            .until("it goes", |w| {
                w.get(key, "default", &name).is_none().then_some(())
            })
            .await;
        let second = plane.create(key, set).await;
        let after = plane
            .until("taken over", belong(meta(&second, "uid").into()))
            .await;
        assert_eq!(after, before, "{kind}: the same Pod, the same revision");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_keeps_its_number() {
    const CONTROLLERS: &str = "replicationcontrollers";
    let plane = Plane::start(&["host-1"]).await;
    // A Pod of the same labels is there already: it counts as one of them.
    let mut stray = json!({"apiVersion": "v1", "kind": "Pod"});
    let template = template("web", "one");
    stray["spec"] = template["spec"].clone();
    stray["metadata"] = json!({"name": "stray", "namespace": "default", "labels": {"app": "web"}});
    plane.create("pods", stray).await;
    // Without a selector, its template's labels are it.
    let wish = json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 3, "template": template}});
    let made = plane.create(CONTROLLERS, wish).await;
    let owned = |w: &controllers::world::World| {
        let mut pods = w.list("pods", "default");
        pods.retain(|p| p["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]);
        pods
    };
    let told = |wanted: i64| {
        move |w: &controllers::world::World| {
            let now = w.get(CONTROLLERS, "default", "web")?;
            let fields = [
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
            ];
            let counted = fields
                .iter()
                .all(|f| int(&now, &format!("/status/{f}"), 0) == wanted);
            let seen = now["status"]["observedGeneration"] == now["metadata"]["generation"];
            (counted && seen && owned(w).len() as i64 == wanted).then_some(now)
        }
    };
    plane.until("three Pods", told(3)).await;
    let stray = plane.world.get("pods", "default", "stray").unwrap();
    assert_eq!(
        text(&stray, "/metadata/ownerReferences/0/kind"),
        "ReplicationController"
    );

    // Who takes a Pod's label away takes the Pod out; another one comes.
    let elsewhere = json!({"metadata": {"labels": {"app": "other"}}});
    plane.world.patch("pods", &stray, "", &elsewhere).await.unwrap();
    plane
        .until("its release", |w: &controllers::world::World| {
            let stray = w.get("pods", "default", "stray")?;
            stray["metadata"]["ownerReferences"].is_null().then_some(())
        })
        .await;
    plane.until("another Pod", told(3)).await;

    plane
        .world
        .patch(CONTROLLERS, &made, "", &json!({"spec": {"replicas": 1}}))
        .await
        .unwrap();
    plane.until("one Pod", told(1)).await;

    // What the API server refuses is a condition, until it no longer does.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"},
        "spec": {"hard": {"pods": "2"}}});
    let quota = plane.create("resourcequotas", quota).await;
    let patch = json!({"spec": {"replicas": 2}});
    plane
        .until("the quota counted", |w: &controllers::world::World| {
            let quota = w.get("resourcequotas", "default", "few")?;
            (quota["status"]["used"]["pods"] == "2").then_some(())
        })
        .await;
    plane.world.patch(CONTROLLERS, &made, "", &patch).await.unwrap();
    let refused = plane
        .until("the refusal", |w: &controllers::world::World| {
            let now = w.get(CONTROLLERS, "default", "web")?;
            condition(&now, "ReplicaFailure").cloned()
        })
        .await;
    assert_eq!(refused["reason"], "FailedCreate");
    assert!(
        text(&refused, "/message").contains("exceeded quota: few"),
        "{refused}"
    );
    plane.world.delete_now("resourcequotas", &quota).await.unwrap();
    let restored = plane.until("two Pods", told(2)).await;
    assert!(condition(&restored, "ReplicaFailure").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscalers_keep_their_bounds_and_say_what_is_missing() {
    const AUTOSCALERS: &str = "horizontalpodautoscalers.autoscaling";
    let plane = Plane::start(&["host-1"]).await;
    plane.create(DEPLOYMENTS, deployment("web", 3, "one")).await;
    let autoscaler = |name: &str, target: &str, max: i64| {
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": max}})
    };
    plane.create(AUTOSCALERS, autoscaler("bounded", "web", 2)).await;
    plane.create(AUTOSCALERS, autoscaler("lost", "nobody", 2)).await;
    let told = |name: &'static str, kind: &'static str| {
        move |w: &controllers::world::World| {
            let found = w.get(AUTOSCALERS, "default", name)?;
            let condition = condition(&found, kind)?;
            let words = format!("{} {}", text(condition, "/reason"), text(condition, "/message"));
            Some((words, found))
        }
    };
    let (words, found) = plane
        .until("a bounded count", told("bounded", "AbleToScale"))
        .await;
    assert_eq!(
        words,
        "SucceededRescale the HPA controller was able to update the target scale to 2"
    );
    assert_eq!(int(&found, "/status/desiredReplicas", 0), 2);
    let scaled = plane.world.get(DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(int(&scaled, "/spec/replicas", 0), 2);
    let (words, _) = plane.until("a lost target", told("lost", "AbleToScale")).await;
    assert_eq!(
        words,
        "FailedGetScale the HPA controller was unable to get the target's current scale: \
         deployments.apps \"nobody\" not found"
    );
    // Nobody measures these Pods.
    let lonely = json!({"spec": {"maxReplicas": 3}});
    plane.world.patch(AUTOSCALERS, &found, "", &lonely).await.unwrap();
    let (words, _) = plane.until("no figures", told("bounded", "ScalingActive")).await;
    assert_eq!(
        words,
        "FailedGetResourceMetric the HPA was unable to compute the replica count: failed to get cpu utilization: \
         unable to get metrics for resource cpu: no metrics returned from resource metrics API"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_pods_never_meet_the_ones_before() {
    let plane = Plane::start(&["host-1"]).await;
    let mut wish = deployment("web", 1, "one");
    wish["spec"]["strategy"] = json!({"type": "Recreate"});
    wish["spec"]["template"]["metadata"]["finalizers"] = json!(["example.com/slow"]);
    let made = plane.create(DEPLOYMENTS, wish).await;
    let told = |generation: i64, replicas: i64| {
        move |w: &controllers::world::World| {
            let d = w.get(DEPLOYMENTS, "default", "web")?;
            let seen = int(&d, "/status/observedGeneration", 0) == generation;
            (seen && int(&d, "/status/replicas", 0) == replicas).then_some(d)
        }
    };
    plane.until("its Pod", told(1, 1)).await;
    let old = plane.world.list("pods", "default").remove(0);
    let next = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}});
    plane.world.patch(DEPLOYMENTS, &made, "", &next).await.unwrap();
    plane.until("no Pod that counts", told(2, 0)).await;
    assert_eq!(
        plane.world.list("replicasets.apps", "default").len(),
        1,
        "the Pod is still there"
    );
    let free = json!({"metadata": {"finalizers": null}});
    plane.world.patch("pods", &old, "", &free).await.unwrap();
    plane.until("the next Pod", told(2, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_is_refused_is_told() {
    let plane = Plane::start(&["host-1"]).await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "default"},
        "spec": {"hard": {"count/replicasets.apps": "0"}}});
    plane.create("resourcequotas", quota).await;
    plane
        .until("the quota counted", |w: &controllers::world::World| {
            let quota = w.get("resourcequotas", "default", "none")?;
            quota["status"]["used"].is_object().then_some(())
        })
        .await;
    plane.create(DEPLOYMENTS, deployment("web", 1, "one")).await;
    let progress = plane
        .until("the refusal", |w: &controllers::world::World| {
            let d = w.get(DEPLOYMENTS, "default", "web")?;
            condition(&d, "Progressing")
                .filter(|c| c["status"] == "False")
                .cloned()
        })
        .await;
    assert_eq!(progress["reason"], "ReplicaSetCreateError");
    let message = text(&progress, "/message");
    assert!(
        message.starts_with("Failed to create new replica set \"web-"),
        "{message}"
    );
    plane
        .until("the Event", |w: &controllers::world::World| {
            let events = w.list("events", "default");
            events
                .iter()
                .any(|e| e["reason"] == "ReplicaSetCreateError")
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_made_by_hand_run_beside_the_schedule() {
    let plane = Plane::start(&["host-1"]).await;
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "main", "image": "runs"}]}}}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "yearly", "namespace": "default"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template}});
    let cron = plane.create("cronjobs.batch", cron).await;
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "by-hand", "namespace": "default",
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [controllers::obj::owner_ref(&cron)]}});
    job["spec"] = template["spec"].clone();
    plane.create("jobs.batch", job).await;
    let event = plane
        .until("the Event", |w: &controllers::world::World| {
            let events = w.list("events", "default");
            events.into_iter().find(|e| e["reason"] == "UnexpectedJob")
        })
        .await;
    assert_eq!(
        event["message"],
        "Saw a job that the controller did not create or forgot: by-hand"
    );
    let cron = plane.world.get("cronjobs.batch", "default", "yearly").unwrap();
    assert_eq!(cron["status"]["active"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_of_adopted_pods_count() {
    let plane = Plane::start(&["host-1"]).await;
    let mut stray = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "namespace": "default",
        "labels": {"task": "x"}}});
    stray["spec"] = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "runs"}]});
    plane.create("pods", stray).await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "late", "namespace": "default"},
        "spec": {"manualSelector": true, "selector": {"matchLabels": {"task": "x"}}, "template": {
            "metadata": {"labels": {"task": "x"}}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "runs"}]}}}});
    plane.create("jobs.batch", job).await;
    let adopted = plane
        .until("its adoption", |w: &controllers::world::World| {
            let pod = w.get("pods", "default", "stray")?;
            let held = pod["metadata"]["finalizers"][0] == "batch.kubernetes.io/job-tracking";
            (held && text(&pod, "/status/phase") == "Running").then_some(pod)
        })
        .await;
    let done = json!({"status": {"phase": "Succeeded"}});
    plane
        .world
        .patch("pods", &adopted, "status", &done)
        .await
        .unwrap();
    let job = plane
        .until("the end", |w: &controllers::world::World| {
            let job = w.get("jobs.batch", "default", "late")?;
            condition(&job, "Complete").map(|_| job.clone())
        })
        .await;
    assert_eq!(job["status"]["succeeded"], 1);
    assert_eq!(
        plane.world.list("pods", "default").len(),
        1,
        "no other one was made"
    );
}
