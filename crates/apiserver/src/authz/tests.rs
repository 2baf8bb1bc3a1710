//! Authorization at its public face, on the default roles and a small tenant.

use super::*;
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::testing::MemoryView;
use serde_json::{Value, json};

fn binding(kind: &str, namespace: &str, name: &str, role: &str, subjects: Value) -> Value {
    let (role_kind, role) = role.split_once('/').unwrap();
    json!({
        "kind": kind,
        "metadata": { "namespace": namespace, "name": name },
        "roleRef": { "apiGroup": rbac::GROUP, "kind": role_kind, "name": role },
        "subjects": subjects,
    })
}

fn view() -> Arc<MemoryView> {
    let view = MemoryView::of([]);
    for object in bootstrap::objects() {
        let resource = match object["kind"].as_str().unwrap() {
            "ClusterRole" => "clusterroles.rbac.authorization.k8s.io",
            "ClusterRoleBinding" => "clusterrolebindings.rbac.authorization.k8s.io",
            _ => "roles.rbac.authorization.k8s.io",
        };
        view.put(resource, object);
    }
    let bindings = "rolebindings.rbac.authorization.k8s.io";
    let user = |name: &str| json!([{ "kind": "User", "name": name }]);
    for (name, role) in [("alice", "edit"), ("bob", "view"), ("olga", "admin")] {
        let subjects = user(&format!("sso:{name}@podvisor.local"));
        view.put(
            bindings,
            binding(
                "RoleBinding",
                "demo",
                name,
                &format!("ClusterRole/{role}"),
                subjects,
            ),
        );
    }
    view.put(
        bindings,
        binding("RoleBinding", "demo", "lost", "Role/none", user("lost")),
    );
    let account = json!([{ "kind": "ServiceAccount", "name": "ci" }]);
    view.put(
        bindings,
        binding("RoleBinding", "demo", "ci", "ClusterRole/view", account),
    );
    view
}

fn ask(text: &str) -> Attributes {
    // verb path, or verb resource[/sub][.group] [namespace[/name]] [?fieldSelector]
    let words: Vec<&str> = text.split(' ').collect();
    if words[1].starts_with('/') {
        return Attributes {
            verb: words[0].into(),
            path: words[1].into(),
            ..Attributes::default()
        };
    }
    let (resource, group) = words[1].split_once('.').unwrap_or((words[1], ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let place = words
        .get(2)
        .filter(|w| !w.starts_with('?'))
        .copied()
        .unwrap_or_default();
    let (namespace, name) = place.split_once('/').unwrap_or((place, ""));
    Attributes {
        verb: words[0].into(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        is_resource: true,
        field_selector: words
            .last()
            .and_then(|w| w.strip_prefix('?'))
            .unwrap_or_default()
            .into(),
        ..Attributes::default()
    }
}

#[tokio::test]
async fn default_roles_and_tenants() {
    let authorization = Authorization::new(view());
    let sso = |name: &str| User::new(format!("sso:{name}@podvisor.local"), &[]);
    let (alice, bob, olga) = (sso("alice"), sso("bob"), sso("olga"));
    let admin = User::new("kubernetes-admin", &["system:masters"]);
    let account = User::new("system:serviceaccount:demo:ci", &["system:serviceaccounts"]);
    let controllers = User::new("system:kube-controller-manager", &[]);
    let scheduler = User::new("system:kube-scheduler", &[]);
    let cases = [
        (&alice, "create pods demo", true),
        (&alice, "create pods/exec demo/web", true),
        (&alice, "get secrets demo/s", true),
        (&alice, "patch deployments/scale.apps demo/web", true),
        (&alice, "list pods other", false),
        (&alice, "list pods", false),
        (&alice, "list nodes", false),
        (
            &alice,
            "create rolebindings.rbac.authorization.k8s.io demo",
            false,
        ),
        (&olga, "create rolebindings.rbac.authorization.k8s.io demo", true),
        (&olga, "create pods demo", true),
        (&bob, "list pods demo", true),
        (&bob, "get pods/log demo/web", true),
        (&bob, "list pods.metrics.k8s.io demo", true),
        (&bob, "create pods demo", false),
        (&bob, "get pods/exec demo/web", false),
        (&bob, "get secrets demo/s", false),
        (&bob, "get /apis/apps/v1", true),
        (&bob, "get /metrics", false),
        (&bob, "create selfsubjectaccessreviews.authorization.k8s.io", true),
        (&account, "list pods demo", true),
        (&account, "list pods other", false),
        (&admin, "delete nodes /n1", true),
        (&controllers, "delete widgets.example.com x/y", true),
        (&controllers, "impersonate users /x", false),
        (&scheduler, "create pods/binding demo/web", true),
        (&scheduler, "get secrets demo/s", false),
        (&User::anonymous(), "get /livez", true),
        (&User::anonymous(), "get /version", true),
        (&User::anonymous(), "get /api", false),
        (&User::anonymous(), "list pods demo", false),
    ];
    for (user, question, want) in cases {
        let got = authorization.authorize(user, &ask(question)).await;
        assert_eq!(got.is_allowed(), want, "{}: {question}: {got:?}", user.name);
    }
    let reason = authorization.authorize(&bob, &ask("list pods demo")).await;
    assert_eq!(
        reason.reason(),
        r#"RBAC: allowed by RoleBinding "bob/demo" of ClusterRole "view" to User "sso:bob@podvisor.local""#
    );
    let lost = authorization
        .authorize(&User::new("lost", &[]), &ask("list pods demo"))
        .await;
    assert_eq!(
        lost.reason(),
        r#"RBAC: role.rbac.authorization.k8s.io "none" not found"#
    );
}

#[test]
fn refusals_are_worded_as_upstream() {
    let user = User::new("x", &[]);
    let cases = [
        (
            "list pods y",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#,
        ),
        (
            "get nodes /n",
            r#"nodes "n" is forbidden: User "x" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
        (
            "patch deployments/scale.apps y/d",
            r#"deployments.apps "d" is forbidden: User "x" cannot patch resource "deployments/scale" in API group "apps" in the namespace "y""#,
        ),
        (
            "get /metrics",
            r#"forbidden: User "x" cannot get path "/metrics""#,
        ),
    ];
    for (question, want) in cases {
        let status = forbidden(&user, &ask(question), "");
        assert_eq!((status.code, status.message.as_str()), (403, want));
    }
}

#[tokio::test]
async fn changes_count_at_once() {
    let view = view();
    let authorization = Authorization::new(view.clone());
    let eve = User::new("eve", &[]);
    let question = ask("list pods demo");
    assert!(!authorization.authorize(&eve, &question).await.is_allowed());
    let subjects = json!([{ "kind": "User", "name": "eve" }]);
    let object = binding("RoleBinding", "demo", "eve", "ClusterRole/view", subjects);
    view.put("rolebindings.rbac.authorization.k8s.io", object.clone());
    assert!(authorization.authorize(&eve, &question).await.is_allowed());
    view.remove("rolebindings.rbac.authorization.k8s.io", &object);
    assert!(!authorization.authorize(&eve, &question).await.is_allowed());
}

#[tokio::test]
async fn nodes_see_their_own() {
    let view = view();
    let pod = |name: &str, node: &str, secret: &str| {
        json!({
            "metadata": { "namespace": "demo", "name": name },
            "spec": {
                "nodeName": node,
                "serviceAccountName": "default",
                "containers": [{ "name": "c", "env": [{ "valueFrom": { "configMapKeyRef": { "name": "conf" } } }] }],
                "volumes": [{ "secret": { "secretName": secret } }, { "name": "d", "ephemeral": {} }],
            },
        })
    };
    view.put("pods", pod("web", "n1", "mine"));
    view.put("pods", pod("db", "n2", "theirs"));
    let authorization = Authorization::new(view);
    let node = User::new("system:node:n1", &["system:nodes"]);
    let unrelated = "no relationship found between node 'n1' and this object";
    let narrow = "can only list/watch pods with spec.nodeName field selector";
    let cases = [
        ("get secrets demo/mine", None),
        ("watch secrets demo/mine", None),
        ("get secrets demo/theirs", Some(unrelated)),
        ("list secrets demo", Some("No Object name found")),
        (
            "delete secrets demo/mine",
            Some("can only read resources of this type"),
        ),
        ("get secrets/status demo/mine", Some("cannot read subresource")),
        (
            "list secrets /mine",
            Some("can only read namespaced object of this type"),
        ),
        ("get configmaps demo/conf", None),
        ("get configmaps demo/other", Some(unrelated)),
        ("get persistentvolumeclaims demo/web-d", None),
        (
            "get persistentvolumeclaims/other demo/web-d",
            Some("cannot get subresource"),
        ),
        ("patch persistentvolumeclaims/status demo/web-d", None),
        (
            "get persistentvolumeclaims/status demo/web-d",
            Some("can only get/update/patch this type"),
        ),
        ("create serviceaccounts/token demo/default", None),
        ("create serviceaccounts/token demo/other", Some(unrelated)),
        ("get serviceaccounts demo/default", None),
        (
            "create serviceaccounts demo",
            Some("can only create tokens for individual service accounts"),
        ),
        (
            "create serviceaccounts/other demo/default",
            Some("can only create token subresource of serviceaccount"),
        ),
        ("list pods", Some(narrow)),
        ("list pods ?spec.nodeName=n1", None),
        ("list pods ?spec.nodeName=n2", Some(narrow)),
        ("list pods ?spec.nodeName!=x\\,spec.nodeName\\=n1", Some(narrow)),
        ("list pods demo/web ?metadata.name=web", None),
        ("list pods demo/db ?metadata.name=db", Some(unrelated)),
        ("list pods /web ?metadata.name=web", Some(unrelated)),
        ("get pods demo/web", None),
        ("get pods demo/db", Some(unrelated)),
        ("patch pods/status demo/web", None),
        ("delete pods demo/web", None),
        ("get nodes /n1", None),
        (
            "get nodes /n2",
            Some("node 'n1' cannot read 'n2', only its own Node object"),
        ),
        ("create nodes", None),
        ("patch nodes/status /n1", None),
        ("update leases.coordination.k8s.io kube-node-lease/n1", None),
        (
            "update leases.coordination.k8s.io kube-node-lease/n2",
            Some("can only access node lease with the same name as the requesting node"),
        ),
        (
            "update leases.coordination.k8s.io demo/n1",
            Some("can only access leases in the \"kube-node-lease\" system namespace"),
        ),
        (
            "list leases.coordination.k8s.io demo",
            Some("can only get, create, update, patch, or delete a node lease"),
        ),
        ("get csinodes.storage.k8s.io /n1", None),
        (
            "list csinodes.storage.k8s.io",
            Some("can only get, create, update, patch, or delete a CSINode"),
        ),
        (
            "get csinodes/status.storage.k8s.io /n1",
            Some("cannot authorize CSINode subresources"),
        ),
        ("list endpointslices.discovery.k8s.io", None),
        ("create events demo", None),
        ("create deployments.apps demo", Some("")),
    ];
    for (question, want) in cases {
        let got = authorization.authorize(&node, &ask(question)).await;
        match want {
            // By this authorizer or by the role of hosts.
            None => assert!(matches!(got, Decision::Allow(_)), "{question}: {got:?}"),
            Some(why) => assert_eq!(got, Decision::NoOpinion(why.into()), "{question}"),
        }
    }
}

#[tokio::test]
async fn tenants_see_their_supervisor_namespace() {
    let view = view();
    view.put(
        "supervisornamespaces.podvisor.io",
        json!({
            "metadata": { "name": "demo" },
            "spec": { "permissions": [
                { "subject": "alice@podvisor.local", "kind": "User", "role": "edit" },
                { "subject": "Ops@podvisor.local", "kind": "Group", "role": "view" },
            ] },
        }),
    );
    let authorization = Authorization::new(view);
    let alice = User::new("sso:alice@podvisor.local", &[]);
    let ops = User::new("sso:bob@podvisor.local", &["sso:Ops@podvisor.local"]);
    let outsiders = [
        User::new("alice@podvisor.local", &[]),
        User::new("sso:Ops@podvisor.local", &[]),
    ];
    let own = "get supervisornamespaces.podvisor.io /demo";
    for user in [&alice, &ops] {
        assert!(authorization.authorize(user, &ask(own)).await.is_allowed());
        for question in [
            "patch supervisornamespaces.podvisor.io /demo",
            "list supervisornamespaces.podvisor.io",
            "get supervisornamespaces.podvisor.io /other",
        ] {
            assert!(
                !authorization.authorize(user, &ask(question)).await.is_allowed(),
                "{question}"
            );
        }
    }
    for user in &outsiders {
        assert!(
            !authorization.authorize(user, &ask(own)).await.is_allowed(),
            "{}",
            user.name
        );
    }
}

#[tokio::test]
async fn nobody_hands_out_more_than_they_have() {
    let view = view();
    view.put(
        "clusterroles.rbac.authorization.k8s.io",
        json!({ "metadata": { "name": "escalator" }, "rules": [{ "apiGroups": [rbac::GROUP], "resources": ["clusterroles"],
            "verbs": ["escalate"], "resourceNames": ["r"] }] }),
    );
    let one = json!([{ "kind": "User", "name": "eve" }]);
    view.put(
        "clusterrolebindings.rbac.authorization.k8s.io",
        binding(
            "ClusterRoleBinding",
            "",
            "escalator",
            "ClusterRole/escalator",
            one,
        ),
    );
    let authorization = Authorization::new(view.clone());
    let plugin = escalation::Escalation::new(authorization.rbac());
    let owner = User::new("sso:olga@podvisor.local", &[]);
    let eve = User::new("eve", &[]);
    let role = |resources: &[&str], verbs: &[&str]| json!({ "metadata": { "name": "r" }, "rules": [{ "apiGroups": [""], "resources": resources, "verbs": verbs }] });
    let with = |mut object: Value, pointer: &str, value: Value| {
        let (place, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(place).unwrap()[key] = value;
        object
    };
    let nodes = role(&["nodes"], &["get"]);
    let labelled = with(
        nodes.clone(),
        "/metadata/labels",
        json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" }),
    );
    let owned = with(
        with(
            nodes.clone(),
            "/metadata/ownerReferences",
            json!([{ "uid": "u" }]),
        ),
        "/metadata/finalizers",
        json!([]),
    );
    let pods = role(&["pods"], &["get"]);
    let gathers = with(
        pods.clone(),
        "/aggregationRule",
        json!({ "clusterRoleSelectors": [{}] }),
    );
    let path = json!({"nonResourceURLs": ["/x"], "verbs": ["get", "post"]});
    let paths = with(nodes.clone(), "/rules", json!([path]));
    let node = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]});
    let with_name =
        json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"], "resourceNames": ["z"]});
    let named = with(nodes.clone(), "/rules", json!([node, with_name]));
    let bind = |role: &str| binding("RoleBinding", "demo", "b", role, json!([]));
    let admin = bind("ClusterRole/cluster-admin");
    let noted = with(admin.clone(), "/metadata/labels", json!({ "a": "b" }));
    let more = "is attempting to grant";
    let everything = "must have cluster-admin privileges to use the aggregationRule";
    let cases = [
        (
            &owner,
            "create roles",
            None,
            role(&["pods", "pods/log"], &["get"]),
            "",
        ),
        (
            &owner,
            "create roles",
            None,
            role(&["nodes", "pods"], &["get", "list"]),
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"sso:olga@podvisor.local\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}",
        ),
        (&owner, "create roles", None, role(&["pods"], &["*"]), more),
        (&owner, "create rolebindings", None, bind("ClusterRole/edit"), ""),
        (&owner, "create rolebindings", None, bind("ClusterRole/admin"), ""),
        (
            &owner,
            "create rolebindings",
            None,
            bind("ClusterRole/cluster-admin"),
            "held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}",
        ),
        (
            &owner,
            "create rolebindings",
            None,
            bind("ClusterRole/none"),
            "rolebindings.rbac.authorization.k8s.io \"none\" not found",
        ),
        (&owner, "patch roles", Some(&nodes), labelled.clone(), more),
        (&owner, "patch roles", Some(&nodes), owned, ""),
        (&owner, "patch roles", Some(&gathers), pods.clone(), everything),
        (&owner, "patch roles", Some(&pods), gathers.clone(), everything),
        (
            &owner,
            "patch rolebindings",
            Some(&admin),
            noted,
            "is attempting to grant",
        ),
        (&owner, "patch rolebindings", Some(&admin), admin.clone(), ""),
        (&eve, "create clusterroles", None, nodes.clone(), more),
        // In the order of their text; verbs on paths stay apart.
        (
            &eve,
            "create clusterroles",
            None,
            paths,
            "held:\n{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}\n{NonResourceURLs:[\"/x\"], Verbs:[\"post\"]}",
        ),
        (
            &eve,
            "create clusterroles",
            None,
            named,
            "held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], ResourceNames:[\"z\"], Verbs:[\"get\"]}\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}",
        ),
        (&eve, "patch clusterroles", Some(&nodes), labelled, ""),
    ];
    let kind = kinds::builtin().iter().find(|k| k.plural == "roles").unwrap();
    for (user, line, old, mut object, want) in cases {
        let place = match (line.contains("cluster"), old) {
            (true, None) => "",
            (true, Some(_)) => "/r",
            (false, None) => "demo",
            (false, Some(_)) => "demo/r",
        };
        let attributes = ask(&format!("{line}.{} {place}", rbac::GROUP));
        let shown = format!("{line} {object}");
        let mut request = AdmissionRequest {
            user,
            attributes: &attributes,
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            kind,
            object: &mut object,
            empties: &machinery::Empties::default(),
            old,
            dry_run: false,
            options: &Value::Null,
            ctx: None,
            round: Default::default(),
        };
        match plugin.admit(&mut request, view.as_ref()).await {
            Ok(_) => assert_eq!(want, "", "{shown}"),
            Err(status) => {
                assert!(
                    !want.is_empty() && status.message.contains(want),
                    "{shown}: {}",
                    status.message
                );
            }
        }
    }
}

#[tokio::test]
async fn reviews() {
    let authorization = Authorization::new(view());
    let bob = User::new("sso:bob@podvisor.local", &[]);
    let mut object = json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "pods", "namespace": "demo" } } });
    review::self_subject_access_review(&mut object, &bob, &authorization)
        .await
        .unwrap();
    assert_eq!(object["status"]["allowed"], true);

    object["spec"]["user"] = "sso:eve@podvisor.local".into();
    review::subject_access_review(&mut object, &authorization)
        .await
        .unwrap();
    assert_eq!(object["status"], json!({ "allowed": false }));
    let elsewhere = review::local_subject_access_review(&mut object, "other", &authorization)
        .await
        .unwrap_err();
    assert_eq!(
        elsewhere.message,
        ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"demo\": must match \
         metadata.namespace"
    );
    for (spec, words) in [
        (
            json!({"user": "u", "resourceAttributes": {"fieldSelector": {}}}),
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is \
             specified, requirements or rawSelector is required",
        ),
        (
            json!({"user": "u", "resourceAttributes": {"labelSelector": {"requirements": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}}),
            "spec.resourceAttributes.labelSelector.requirements[0].values: Forbidden: may not be specified when `operator` is \
             'Exists' or 'DoesNotExist'",
        ),
        (
            json!({"user": "u", "resourceAttributes": {"labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b c"]}]}}}),
            "spec.resourceAttributes.labelSelector.requirements[0].values[0]: Invalid value: \"b c\": a valid label must be an empty \
             string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
             (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            json!({"user": "u", "resourceAttributes": {}, "nonResourceAttributes": {"path": "/x", "verb": "get"}}),
            "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: cannot be specified in combination \
             with resourceAttributes",
        ),
        (
            json!({}),
            "[spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be \
             specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]",
        ),
    ] {
        let refused = review::subject_access_review(&mut json!({ "spec": spec }), &authorization)
            .await
            .unwrap_err();
        assert_eq!(
            refused.message,
            format!(".authorization.k8s.io \"\" is invalid: {words}")
        );
    }

    let (fields, labels) = ("fieldSelector", "labelSelector");
    let one = |operator: &str, values: Value| json!([{ "key": "a", "operator": operator, "values": values }]);
    let both =
        json!([{ "key": "a", "operator": "In", "values": ["b"] }, { "key": "c", "operator": "Exists" }]);
    for (field, selector, told) in [
        (fields, json!({ "rawSelector": "a=b" }), ""),
        (fields, json!({ "rawSelector": "a" }), "ignored"),
        (
            fields,
            json!({ "requirements": one("NotIn", json!(["b,c"])) }),
            "",
        ),
        (
            fields,
            json!({ "requirements": one("In", json!(["b", "c"])) }),
            "ignored",
        ),
        (fields, json!({ "requirements": both }), "partially ignored"),
        (labels, json!({ "rawSelector": "a in (b)" }), ""),
        (labels, json!({ "rawSelector": "a in b" }), "ignored"),
        (
            labels,
            json!({ "requirements": one("Newer", json!(["b"])) }),
            "ignored",
        ),
    ] {
        let mut object =
            json!({ "spec": { "user": "u", "resourceAttributes": { "verb": "list", field: selector } } });
        review::subject_access_review(&mut object, &authorization)
            .await
            .unwrap();
        let told = match told {
            "" => Value::Null,
            how => json!(format!(
                "spec.resourceAttributes.{field} {how} due to parse error"
            )),
        };
        assert_eq!(object["status"]["evaluationError"], told, "{object}");
    }

    let empty = review::self_subject_access_review(&mut json!({ "spec": {} }), &bob, &authorization).await;
    assert!(
        empty
            .unwrap_err()
            .message
            .contains("exactly one of nonResourceAttributes or resourceAttributes")
    );

    let mut object = json!({ "spec": { "namespace": "demo" } });
    let root = User::new("root", &["system:masters"]);
    review::self_subject_rules_review(&mut object, &root, &authorization)
        .await
        .unwrap();
    let rules = object["status"]["resourceRules"].as_array().unwrap();
    let all = rules.iter().filter(|rule| rule["apiGroups"] == json!(["*"]));
    assert_eq!(all.count(), 1, "{object}");

    let mut object = json!({ "spec": { "namespace": "demo" } });
    review::self_subject_rules_review(&mut object, &bob, &authorization)
        .await
        .unwrap();
    let status = object["status"].to_string();
    assert!(
        status.contains(r#""pods/log""#) && status.contains(r#""/version/""#),
        "{status}"
    );
    assert_eq!(object["status"]["incomplete"], false);
}

#[test]
fn defaults_come_back_and_additions_stay() {
    let wanted = bootstrap::objects();
    let view_role = wanted
        .iter()
        .find(|o| o["metadata"]["name"] == "system:aggregate-to-view")
        .unwrap();
    assert_eq!(bootstrap::reconcile(view_role, view_role), None);

    let mut old = view_role.clone();
    let rules = old["rules"].as_array_mut().unwrap();
    let removed = rules.remove(0);
    rules.push(json!({ "apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"] }));
    let mended = bootstrap::reconcile(&old, view_role).unwrap();
    let has = |rule: &Value| {
        mended["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["apiGroups"] == rule["apiGroups"])
    };
    assert!(has(&removed) && has(&json!({ "apiGroups": ["example.com"] })));
    assert_eq!(bootstrap::reconcile(&mended, view_role), None);

    old["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
    assert_eq!(bootstrap::reconcile(&old, view_role), None);
}
