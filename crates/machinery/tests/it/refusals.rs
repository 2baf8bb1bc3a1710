//! What is refused about the kinds that extend the server, in upstream's words: one fault at a time in a good manifest.

use crate::{defaulted, kind_of};
use machinery::{prepare_create, validate_create, validate_update};
use serde_json::{Value, json};

/// Changes one thing of a good manifest; answers what is said about it.
fn refusals(manifest: &str, at: &str, value: Value) -> Vec<String> {
    let mut object = defaulted(manifest);
    let kind = kind_of(&object);
    prepare_create(kind, &mut object);
    let errors = validate_create(kind, &object);
    assert!(errors.is_empty(), "{manifest}: {errors:?}");
    let (parent, field) = at.rsplit_once('/').expect("a pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("nothing above {at}"));
    match parent {
        Value::Array(items) => items.push(value),
        Value::Object(fields) if value.is_null() => {
            fields.remove(field);
        }
        other => other[field] = value,
    }
    let errors = validate_create(kind, &object);
    errors.iter().map(ToString::to_string).collect()
}

fn check(manifest: &str, cases: &[(&str, Value, &[&str])]) {
    for (at, value, expected) in cases {
        assert_eq!(refusals(manifest, at, value.clone()), *expected, "{at} = {value}");
    }
}

#[test]
fn webhooks() {
    let good = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w}
webhooks:
- name: a.example.com
  clientConfig: {service: {namespace: nn, name: s, path: /a/b}}
  admissionReviewVersions: [v1]
  sideEffects: None
  rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods, pods/status]}]
  matchConditions: [{name: a, expression: 'true'}]
";
    let hook = |field: &str| format!("/webhooks/0/{field}");
    let rule = |field: &str| format!("/webhooks/0/rules/0/{field}");
    let cases: [(String, Value, &[&str]); 17] = [
        (
            hook("sideEffects"),
            json!(null),
            &["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        ),
        (
            hook("timeoutSeconds"),
            json!(31),
            &[
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        ),
        (
            hook("admissionReviewVersions"),
            json!(["v9", "v9"]),
            &[
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v9\": duplicate version",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v9\",\"v9\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            hook("clientConfig"),
            json!({}),
            &["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
        ),
        (
            hook("clientConfig"),
            json!({"url": "http://u@h/x?y#z"}),
            &[
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"z\": fragments are not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"y\": query parameters are not permitted in the URL",
            ],
        ),
        (
            hook("clientConfig/service/path"),
            json!("a//b/"),
            &[
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b/\": must start with a '/'",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b/\": segment[0] may not be empty",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b/\": segment[1] may not be empty",
            ],
        ),
        (
            hook("clientConfig/service/port"),
            json!(0),
            &[
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            rule("operations"),
            json!(["*", "CREATE"]),
            &[
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ],
        ),
        (
            rule("operations"),
            json!(["GET"]),
            &[
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"GET\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ],
        ),
        (
            rule("apiGroups"),
            json!([]),
            &["webhooks[0].rules[0].apiGroups: Required value"],
        ),
        (
            rule("apiVersions"),
            json!(["*", "v1"]),
            &[
                "webhooks[0].rules[0].apiVersions: Invalid value: [\"*\",\"v1\"]: if '*' is present, must not specify other API versions",
            ],
        ),
        (
            rule("resources"),
            json!(["*", "pods"]),
            &[
                "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
            ],
        ),
        (
            rule("resources"),
            json!(["pods/*", "pods/status"]),
            &[
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
            ],
        ),
        (rule("resources"), json!(["pods", "*"]), &[]),
        (
            rule("resources"),
            json!(["*/*", "pods/*"]),
            &[
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/*\": if '*/*' is present, must not specify pods/*",
                "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"pods/*\"]: if '*/*' is present, must not specify other resources",
            ],
        ),
        (
            rule("resources"),
            json!(["*/*", "pods"]),
            &[
                "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources",
            ],
        ),
        (
            rule("scope"),
            json!("Some"),
            &[
                "webhooks[0].rules[0].scope: Unsupported value: \"Some\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ],
        ),
    ];
    for (at, value, expected) in cases {
        assert_eq!(refusals(good, &at, value.clone()), expected, "{at} = {value}");
    }
    let names = refusals(
        good,
        "/webhooks/0/matchConditions/-",
        json!({"name": "a b", "expression": "true"}),
    );
    assert!(
        names[0].starts_with(
            "webhooks[0].matchConditions[1].name: Invalid value: \"a b\": name part must consist of"
        ),
        "{names:?}"
    );
}

#[test]
fn policies_and_bindings() {
    let policy = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]}
  variables: [{name: a, expression: '1'}]
  validations: [{expression: 'true', message: m}]
";
    check(
        policy,
        &[
            (
                "/spec/matchConstraints",
                json!(null),
                &["spec.matchConstraints: Required value"],
            ),
            (
                "/spec/matchConstraints/resourceRules",
                json!([]),
                &["spec.matchConstraints.resourceRules: Required value"],
            ),
            (
                "/spec/failurePolicy",
                json!("Warn"),
                &["spec.failurePolicy: Unsupported value: \"Warn\": supported values: \"Fail\", \"Ignore\""],
            ),
            (
                "/spec/paramKind/apiVersion",
                json!("a/b/c"),
                &[
                    "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                ],
            ),
            (
                "/spec/paramKind/kind",
                json!(""),
                &["spec.paramKind.kind: Required value"],
            ),
            (
                "/spec/variables/-",
                json!({"name": "if", "expression": "1"}),
                &["spec.variables[1].name: Invalid value: \"if\": name is not a valid CEL identifier"],
            ),
            (
                "/spec/validations/0/message",
                json!("a\nb"),
                &[
                    "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                ],
            ),
            (
                "/spec/validations/0/reason",
                json!("Odd"),
                &[
                    "spec.validations[0].reason: Unsupported value: \"Odd\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
                ],
            ),
        ],
    );
    let binding = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b}
spec: {policyName: p, validationActions: [Deny], paramRef: {name: x, parameterNotFoundAction: Deny}}
";
    check(
        binding,
        &[
            (
                "/spec/policyName",
                json!(""),
                &["spec.policyName: Required value"],
            ),
            (
                "/spec/validationActions",
                json!([]),
                &["spec.validationActions: Required value: at least one validation action is required"],
            ),
            (
                "/spec/validationActions/-",
                json!("Warn"),
                &[
                    "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
                ],
            ),
            (
                "/spec/validationActions/-",
                json!("Deny"),
                &["spec.validationActions[1]: Duplicate value: \"Deny\""],
            ),
            (
                "/spec/paramRef",
                json!({"parameterNotFoundAction": "Allow"}),
                &["spec.paramRef: Required value: one of name or selector must be specified"],
            ),
        ],
    );
}

#[test]
fn flow_control() {
    let schema = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: f}
spec:
  matchingPrecedence: 500
  priorityLevelConfiguration: {name: global-default}
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: User, user: {name: u}}]
    resourceRules: [{verbs: [get], apiGroups: [''], resources: [pods], namespaces: ['*']}]
";
    check(
        schema,
        &[
            (
                "/spec/matchingPrecedence",
                json!(0),
                &["spec.matchingPrecedence: Invalid value: 0: must be a positive value"],
            ),
            (
                "/spec/matchingPrecedence",
                json!(1),
                &[
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ],
            ),
            (
                "/spec/priorityLevelConfiguration/name",
                json!(""),
                &["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
            ),
            (
                "/spec/rules/0/subjects/-",
                json!({"kind": "User", "group": {"name": "g"}}),
                &[
                    "spec.rules[0].subjects[1].user: Required value: user is required when subject kind is 'User'",
                    "spec.rules[0].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                ],
            ),
            (
                "/spec/rules/0/resourceRules/0/namespaces",
                json!([]),
                &[
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                ],
            ),
            (
                "/spec/rules/0/resourceRules/0/verbs",
                json!(["*", "get"]),
                &[
                    "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                ],
            ),
        ],
    );
    let level = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: l}
spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 64, handSize: 6, queueLengthLimit: 50}}}}
";
    check(
        level,
        &[
            (
                "/spec/type",
                json!("Exempt"),
                &[
                    "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
                    "spec.limited: Forbidden: must be nil if the type is not Limited",
                ],
            ),
            (
                "/spec/limited/nominalConcurrencyShares",
                json!(-1),
                &["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"],
            ),
            (
                "/spec/limited/lendablePercent",
                json!(101),
                &["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"],
            ),
            (
                "/spec/limited/limitResponse/type",
                json!("Reject"),
                &[
                    "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
                ],
            ),
            (
                "/spec/limited/limitResponse/queuing/handSize",
                json!(65),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
                ],
            ),
            (
                "/spec/limited/limitResponse/queuing/handSize",
                json!(15),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 15: required entropy bits of deckSize 64 and handSize 15 should not be greater than 60",
                ],
            ),
        ],
    );
}

#[test]
fn storage() {
    let driver =
        "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: d.example.com}, spec: {}}";
    check(
        driver,
        &[
            (
                "/spec/fsGroupPolicy",
                json!("Odd"),
                &[
                    "spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                ],
            ),
            (
                "/spec/tokenRequests",
                json!([{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                    "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                ],
            ),
            (
                "/spec/nodeAllocatableUpdatePeriodSeconds",
                json!(1),
                &[
                    "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 1: must be greater than or equal to 10 seconds",
                ],
            ),
        ],
    );
    let node = "{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: node}, spec: {drivers: [{name: d, nodeID: i}]}}";
    check(
        node,
        &[(
            "/spec/drivers/-",
            json!({"name": "d", "nodeID": ""}),
            &[
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].name: Duplicate value: \"d\"",
            ],
        )],
    );
    let attachment = "
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: a}
spec: {attacher: d, nodeName: node, source: {persistentVolumeName: v}}
";
    check(
        attachment,
        &[
            ("/spec/attacher", json!(""), &["spec.attacher: Required value"]),
            (
                "/spec/source",
                json!({}),
                &[
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ],
            ),
        ],
    );
    let class = "{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {name: c}, driverName: d, parameters: {a: b}}";
    check(
        class,
        &[
            ("/driverName", json!(""), &["driverName: Required value"]),
            (
                "/parameters",
                json!(null),
                &["parameters: Required value: must contain at least one key/value pair"],
            ),
        ],
    );
}

#[test]
fn others() {
    let service = "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.com}
spec: {group: example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1, caBundle: eA==, service: {namespace: nn, name: s}}
";
    check(
        service,
        &[
            (
                "/spec/insecureSkipTLSVerify",
                json!(true),
                &["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"],
            ),
            (
                "/spec/service/port",
                json!(70000),
                &[
                    "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/versionPriority",
                json!(1001),
                &["spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
            ),
            (
                "/spec/service",
                json!(null),
                &["spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle"],
            ),
            (
                "/spec",
                json!({"group": "Example.com", "version": "V1", "groupPriorityMinimum": 1, "versionPriority": 1}),
                &[
                    "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \"V1.Example.com\"",
                    "spec.group: Invalid value: \"Example.com\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                    "spec.version: Invalid value: \"V1\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                "/spec",
                json!({"version": "v2", "groupPriorityMinimum": 1, "versionPriority": 1}),
                &[
                    "metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \"v2.\"",
                    "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
                ],
            ),
        ],
    );
    let request = "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: r}
spec: {request: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIR01HNENBUUF3RERFS01BZ0dBMVVFQXd3QllUQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQTBJQUJBb3h6NkdUbHB6WVk5RVFNUHdMaDlMUXRoS216OHg2NEVxWFRsTFNNbG9EczVzMVhlTC9YWnJOVldEcU9uaGdEWFhwTDNDQUFQTnc2SFNqaFlndG10bWdBREFLQmdncWhrak9QUVFEQWdOSUFEQkZBaUFlYldVN2hXWi9ic3pqVU1saXRwaTNjVkp4T0svZmNvNk14SkphNjNhd2RBSWhBTStydlczTWQvaXJCUTFlNjJZWVZEMTFPWHJLS2NqbXpWcURyM1V5MXdEZAotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K, signerName: example.com/s, usages: [client auth]}
";
    check(
        request,
        &[
            (
                "/spec/request",
                json!("eA=="),
                &["spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"],
            ),
            (
                "/spec/signerName",
                json!("odd"),
                &[
                    "spec.signerName: Invalid value: \"odd\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
                ],
            ),
            (
                "/spec/usages/-",
                json!("client auth"),
                &["spec.usages[1]: Duplicate value: \"client auth\""],
            ),
            (
                "/spec/expirationSeconds",
                json!(5),
                &[
                    "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
                ],
            ),
        ],
    );
}

/// An authority's certificate, and one that is of no authority.
const ANCHOR: &str = "-----BEGIN CERTIFICATE-----\nMIIBcDCCARWgAwIBAgIUSQN5/ETBhra5qpDam7cFpHyVV1gwCgYIKoZIzj0EAwIw\nDDEKMAgGA1UEAwwBcjAgFw0yNjExMjkwMzQzMDhaGA8yMTI2MTEwNTAzNDMwOFow\nDDEKMAgGA1UEAwwBcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKOWTzORmGwy\n/NNqSeEOBcKIgJuwVZylWlOeJFGxX8F7ldNBNCnHhGAaGIlxTcUWnTBQP3lOzxEA\nKoaUCpEFQPqjUzBRMB0GA1UdDgQWBBT/HxEew3XOzul38V38gUuaR7xfmzAfBgNV\nHSMEGDAWgBT/HxEew3XOzul38V38gUuaR7xfmzAPBgNVHRMBAf8EBTADAQH/MAoG\nCCqGSM49BAMCA0kAMEYCIQCC5PH4wPT0mTG/5n8fbA3foqb0m4uMjjyHntwII+jz\nogIhAJryFPNGoVsxjdJgagr2o4jr73NJfLLHeSpsLgXeo40s\n-----END CERTIFICATE-----\n";
const LEAF: &str = "-----BEGIN CERTIFICATE-----\nMIIBbDCCARKgAwIBAgIUQi5b3fZeso+3wEWL5jit/FcJUg8wCgYIKoZIzj0EAwIw\nDDEKMAgGA1UEAwwBcjAgFw0yNjExMjkwMzQzMDhaGA8yMTI2MTEwNTAzNDMwOFow\nDDEKMAgGA1UEAwwBcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKOWTzORmGwy\n/NNqSeEOBcKIgJuwVZylWlOeJFGxX8F7ldNBNCnHhGAaGIlxTcUWnTBQP3lOzxEA\nKoaUCpEFQPqjUDBOMB0GA1UdDgQWBBT/HxEew3XOzul38V38gUuaR7xfmzAfBgNV\nHSMEGDAWgBT/HxEew3XOzul38V38gUuaR7xfmzAMBgNVHRMBAf8EAjAAMAoGCCqG\nSM49BAMCA0gAMEUCIDYpwodycq0G8w+Xo4eoQjg8TvYkI2DGQk+SAOENsRNZAiEA\nqo6OofFYA0zfDKjdJ2wcfYAdOYoKXNfhfKgp1O1On4g=\n-----END CERTIFICATE-----\n";

#[test]
fn trust_bundles() {
    let bundle = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
        "metadata": {"name": "a.io:s:roots"},
        "spec": {"signerName": "a.io/s", "trustBundle": format!("words\n{ANCHOR}more words\n")}});
    let fault = |text: &str| format!("spec.trustBundle: Invalid value: \"<value omitted>\": {text}");
    let with =
        |kind: &str, text: &str| format!("{ANCHOR}-----BEGIN {kind}-----\n{text}-----END {kind}-----\n");
    let cases = [
        (
            format!("{ANCHOR}{ANCHOR}"),
            fault("duplicate trust anchor (indices [0 1])"),
        ),
        (LEAF.to_owned(), fault("entry 0 does not have the CA bit set")),
        (
            "words".to_owned(),
            fault("at least one trust anchor must be provided"),
        ),
        (
            with("PRIVATE KEY", "eA==\n"),
            fault("entry 1 has bad block type: PRIVATE KEY"),
        ),
        (
            with("CERTIFICATE", "A: b\n\neA==\n"),
            fault("entry 1 has PEM block headers"),
        ),
        (
            with("CERTIFICATE", "eA==\n"),
            fault("entry 1 does not parse as X.509"),
        ),
    ];
    for (text, expected) in cases {
        let found = refusals(&bundle.to_string(), "/spec/trustBundle", json!(text));
        assert_eq!(found, [expected]);
    }
    check(
        &bundle.to_string(),
        &[
            (
                "/metadata/name",
                json!("roots"),
                &[
                    "metadata.name: Invalid value: \"roots\": ClusterTrustBundle for signerName a.io/s must be named with prefix a.io:s:",
                ],
            ),
            (
                "/spec/signerName",
                Value::Null,
                &[
                    "metadata.name: Invalid value: \"a.io:s:roots\": ClusterTrustBundle without signer name must not have \":\" in its name",
                ],
            ),
        ],
    );
    let mut other = bundle.clone();
    (other["metadata"]["name"], other["spec"]["signerName"]) = (json!("a.io:t:roots"), json!("a.io/t"));
    let errors = validate_update(kind_of(&bundle), &other, &bundle, None);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let immutable = "spec.signerName: Invalid value: \"a.io/t\": field is immutable".to_owned();
    assert!(errors.contains(&immutable), "{errors:?}");
}

#[test]
fn projected_trust_bundles() {
    let pod = |source: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: d}}, spec: {{containers: [{{name: c, image: x}}], \
             volumes: [{{name: v, projected: {{sources: [{{clusterTrustBundle: {source}}}]}}}}]}}}}"
        )
    };
    const AT: &str = "/spec/volumes/0/projected/sources/0/clusterTrustBundle";
    const PLACE: &str = "spec.volumes[0].projected.sources[0].clusterTrustBundle";
    let cases = [
        (
            "{signerName: a.io/s, labelSelector: {}, path: ca.pem}",
            "signerName",
            Value::Null,
            ": Required value: either name or signerName must be specified",
        ),
        (
            "{signerName: a.io/s, path: ca.pem}",
            "signerName",
            json!("odd"),
            ".signerName: Invalid value: \"odd\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "{name: 'a.io:s:roots', path: ca.pem}",
            "name",
            json!("a.io:s:Roots"),
            ".name: Invalid value: \"a.io:s:Roots\": not a valid clustertrustbundlename: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            "{name: roots, path: ca.pem}",
            "path",
            Value::Null,
            ".path: Required value",
        ),
        (
            "{name: roots, path: ca.pem}",
            "labelSelector",
            json!({}),
            ".labelSelector: Invalid value: {}: labelSelector must be unset if name is specified",
        ),
    ];
    for (source, field, value, expected) in cases {
        let errors = refusals(&pod(source), &format!("{AT}/{field}"), value);
        assert_eq!(errors, [format!("{PLACE}{expected}")], "{source}");
    }
}

/// What stands behind a PersistentVolume is judged by its kind.
#[test]
fn persistent_sources() {
    const FORM: &str = "must be valid format";
    for (source, expected) in [
        ("hostPath: {path: /a}", vec![]),
        (
            "flocker: {}",
            vec!["spec.flocker: Required value: one of datasetName and datasetUUID is required".to_owned()],
        ),
        (
            "gcePersistentDisk: {partition: 256}",
            vec![
                "spec.persistentDisk.pdName: Required value".into(),
                "spec.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive"
                    .into(),
            ],
        ),
        (
            "cinder: {volumeID: v, secretRef: {}}",
            vec![
                "spec.cinder.secretRef.name: Required value".into(),
                "spec.cinder.secretRef.namespace: Required value".into(),
            ],
        ),
        (
            "iscsi: {targetPortal: p, iqn: x, lun: 0, initiatorName: z}",
            vec![
                format!("spec.iscsi.iqn: Invalid value: \"x\": {FORM}"),
                format!("spec.iscsi.initiatorname: Invalid value: \"z\": {FORM}"),
            ],
        ),
        (
            "azureFile: {secretName: s, shareName: h, secretNamespace: ''}",
            vec!["spec.azureFile.secretNamespace: Required value".into()],
        ),
        (
            "csi: {driver: d, volumeHandle: h, nodeExpandSecretRef: {name: nn}}",
            vec!["spec.csi.nodeExpandSecretRef.namespace: Required value".into()],
        ),
        (
            "nfs: {server: s, path: /p}\n  cephfs: {monitors: [a]}",
            vec!["spec.cephFS: Forbidden: may not specify more than 1 volume type".into()],
        ),
        (
            "mountOptions: [ro]",
            vec!["spec: Required value: must specify a volume type".into()],
        ),
    ] {
        let manifest = format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: v}}\nspec:\n  capacity: {{storage: 1Gi}}\n  accessModes: [ReadWriteOnce]\n  {source}\n"
        );
        let mut object = defaulted(&manifest);
        let kind = kind_of(&object);
        prepare_create(kind, &mut object);
        let errors = validate_create(kind, &object);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{source}");
    }
}

/// What is empty is not what is absent.
#[test]
fn empty_words() {
    for (manifest, expected) in [
        (
            "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: c}, provisioner: p, volumeBindingMode: ''}",
            "volumeBindingMode: Unsupported value: \"\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ),
        (
            "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: c}, value: 1, preemptionPolicy: ''}",
            "preemptionPolicy: Required value",
        ),
        (
            "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: c}, spec: {fsGroupPolicy: ''}}",
            "spec.fsGroupPolicy: Unsupported value: \"\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        ),
    ] {
        let mut object = defaulted(manifest);
        let kind = kind_of(&object);
        prepare_create(kind, &mut object);
        let errors = validate_create(kind, &object);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected], "{manifest}");
    }
}
