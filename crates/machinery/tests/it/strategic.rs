//! Strategic merge patch: each case is a document, a patch and what comes out.

use crate::yaml;
use machinery::strategic_merge_patch;

const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const SERVICE: &str = "io.k8s.api.core.v1.ServiceSpec";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.DeploymentSpec";

#[test]
fn patches() {
    let cases = [
        (
            "scalars and nulls",
            META,
            "{name: a, labels: {x: '1', y: '2'}}",
            "{labels: {x: null, z: '3'}}",
            "{name: a, labels: {y: '2', z: '3'}}",
        ),
        (
            "keyed list, merged by name",
            POD_SPEC,
            "{containers: [{name: a, image: x}, {name: b, image: y}]}",
            "{containers: [{name: b, image: z}, {name: c, image: w}]}",
            "{containers: [{name: a, image: x}, {name: b, image: z}, {name: c, image: w}]}",
        ),
        (
            "nested keyed lists",
            POD_SPEC,
            "{containers: [{name: a, env: [{name: K, value: v}], ports: [{containerPort: 80}]}]}",
            "{containers: [{name: a, env: [{name: K, value: w}, {name: L, value: x}], ports: [{containerPort: 81}]}]}",
            "{containers: [{name: a, env: [{name: K, value: w}, {name: L, value: x}], ports: [{containerPort: 81}, {containerPort: 80}]}]}",
        ),
        (
            "delete an element",
            POD_SPEC,
            "{containers: [{name: a}, {name: b}]}",
            "{containers: [{name: a, $patch: delete}]}",
            "{containers: [{name: b}]}",
        ),
        (
            "replace a list",
            POD_SPEC,
            "{containers: [{name: a}, {name: b}]}",
            "{containers: [{name: c}, {$patch: replace}]}",
            "{containers: [{name: c}]}",
        ),
        (
            "what replaces a map keeps its nulls",
            META,
            "{labels: {x: '1'}}",
            "{labels: {y: null, $patch: replace}}",
            "{labels: {y: null}}",
        ),
        (
            "a directive where no map is takes away what is there",
            META,
            "{namespace: a, finalizers: [f], labels: {x: '1'}}",
            "{namespace: {$patch: delete}, finalizers: {$patch: odd}, annotations: {$patch: delete}, name: {deep: {$patch: delete}}}",
            "{labels: {x: '1'}, name: {}}",
        ),
        (
            "what is no directive is a field",
            META,
            "{name: a}",
            "{$odd: 1}",
            "{name: a, $odd: 1}",
        ),
        (
            "replace a map",
            POD_SPEC,
            "{securityContext: {runAsUser: 1, fsGroup: 2}}",
            "{securityContext: {runAsUser: 3, $patch: replace}}",
            "{securityContext: {runAsUser: 3}}",
        ),
        (
            "delete a map's content",
            POD_SPEC,
            "{securityContext: {runAsUser: 1}}",
            "{securityContext: {$patch: delete}}",
            "{securityContext: {}}",
        ),
        (
            "atomic list",
            POD_SPEC,
            "{tolerations: [{key: a}]}",
            "{tolerations: [{key: b}]}",
            "{tolerations: [{key: b}]}",
        ),
        (
            "set",
            META,
            "{finalizers: [a/a, b/b]}",
            "{finalizers: [b/b, c/c]}",
            "{finalizers: [a/a, b/b, c/c]}",
        ),
        (
            "delete from a set",
            META,
            "{finalizers: [a/a, b/b]}",
            "{$deleteFromPrimitiveList/finalizers: [a/a]}",
            "{finalizers: [b/b]}",
        ),
        (
            "delete and add in a set",
            META,
            "{finalizers: [a/a, b/b]}",
            "{$deleteFromPrimitiveList/finalizers: [a/a], finalizers: [c/c]}",
            "{finalizers: [c/c, b/b]}",
        ),
        (
            "new elements come before those that only the document has",
            POD_SPEC,
            "{containers: [{name: a}, {name: b}]}",
            "{containers: [{name: new}, {name: b, image: z}]}",
            "{containers: [{name: new}, {name: a}, {name: b, image: z}]}",
        ),
        (
            "order of a keyed list",
            POD_SPEC,
            "{containers: [{name: a}, {name: b}, {name: c}]}",
            "{$setElementOrder/containers: [{name: c}, {name: a}, {name: b}]}",
            "{containers: [{name: c}, {name: a}, {name: b}]}",
        ),
        (
            "order, with an element of the server",
            POD_SPEC,
            "{containers: [{name: sidecar}, {name: a}, {name: b}]}",
            "{$setElementOrder/containers: [{name: b}, {name: a}], containers: [{name: a, image: i}]}",
            "{containers: [{name: sidecar}, {name: b}, {name: a, image: i}]}",
        ),
        (
            "order, new elements",
            POD_SPEC,
            "{containers: [{name: a}]}",
            "{$setElementOrder/containers: [{name: b}, {name: a}], containers: [{name: b, image: i}]}",
            "{containers: [{name: b, image: i}, {name: a}]}",
        ),
        (
            "order of a set",
            META,
            "{finalizers: [a/a, b/b]}",
            "{$setElementOrder/finalizers: [b/b, a/a]}",
            "{finalizers: [b/b, a/a]}",
        ),
        (
            "order and delete, as kubectl apply sends them",
            POD_SPEC,
            "{containers: [{name: a}, {name: b}]}",
            "{$setElementOrder/containers: [{name: b}], containers: [{name: a, $patch: delete}]}",
            "{containers: [{name: b}]}",
        ),
        (
            "retain keys",
            DEPLOYMENT,
            "{strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}",
            "{strategy: {$retainKeys: [type], type: Recreate}}",
            "{strategy: {type: Recreate}}",
        ),
        (
            "retain keys in a volume",
            POD_SPEC,
            "{volumes: [{name: v, emptyDir: {}}]}",
            "{volumes: [{name: v, $retainKeys: [name, secret], secret: {secretName: s}}]}",
            "{volumes: [{name: v, secret: {secretName: s}}]}",
        ),
        (
            "merge key port",
            SERVICE,
            "{ports: [{port: 80, name: web}]}",
            "{ports: [{port: 80, nodePort: 30080}, {port: 81}]}",
            "{ports: [{port: 80, name: web, nodePort: 30080}, {port: 81}]}",
        ),
        (
            "nulls in new parts vanish",
            POD_SPEC,
            "{}",
            "{nodeSelector: {a: b, c: null}, affinity: {nodeAffinity: null}}",
            "{nodeSelector: {a: b}, affinity: {}}",
        ),
        (
            "remove a list",
            POD_SPEC,
            "{tolerations: [{key: a}], volumes: [{name: v}]}",
            "{tolerations: null, volumes: null}",
            "{}",
        ),
        (
            "a list that replaces comes as it is",
            POD_SPEC,
            "{tolerations: [{key: a}]}",
            "{tolerations: [{key: b, $patch: merge}, {value: null}]}",
            "{tolerations: [{key: b, $patch: merge}, {value: null}]}",
        ),
        (
            "so does a new element",
            POD_SPEC,
            "{containers: [{name: a}]}",
            "{containers: [{name: b, $setElementOrder/env: [{name: K}], securityContext: {$patch: replace}}]}",
            "{containers: [{name: b, $setElementOrder/env: [{name: K}], securityContext: {$patch: replace}}, {name: a}]}",
        ),
        (
            "what is new loses nulls, and what stands beside $patch",
            POD_SPEC,
            "{}",
            "{affinity: {nodeAffinity: {$patch: replace}, podAffinity: {a: null, $retainKeys: [b]}}, volumes: [{$patch: delete}]}",
            "{affinity: {podAffinity: {$retainKeys: [b]}}, volumes: []}",
        ),
        (
            "another type replaces",
            SERVICE,
            "{ports: [{port: 80, targetPort: web}]}",
            "{ports: [{port: 80, targetPort: 8080}]}",
            "{ports: [{port: 80, targetPort: 8080}]}",
        ),
    ];
    for (what, schema, doc, patch, expected) in cases {
        let got = strategic_merge_patch(schema, &yaml(doc), &yaml(patch));
        assert_eq!(
            got.unwrap_or_else(|e| panic!("{what}: {e}")),
            yaml(expected),
            "{what}"
        );
    }
}

#[test]
fn malformed_patches_are_refused() {
    for (schema, patch, code, message) in [
        (
            POD_SPEC,
            "{containers: [{image: x}]}",
            500,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            POD_SPEC,
            "{containers: [{name: a, $patch: burn}]}",
            500,
            "unknown patch type: burn in map: map[$patch:burn name:a]",
        ),
        (
            POD_SPEC,
            "{containers: [{name: a, $patch: merge}]}",
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            POD_SPEC,
            "{securityContext: {$patch: merge}}",
            500,
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            POD_SPEC,
            "{containers: [{name: a}, b]}",
            500,
            "list element types are not identical: [[map[name:a]] [map[name:a] b]]",
        ),
        (
            META,
            "{finalizers: [1]}",
            500,
            "list element types are not identical: [[a/a] [1]]",
        ),
        (
            META,
            "{$setElementOrder/finalizers: x}",
            500,
            "expected a []interface {}, but received a string",
        ),
        (
            POD_SPEC,
            "{$setElementOrder/none: []}",
            500,
            "unable to find api field in struct PodSpec for the json field \"none\"",
        ),
        (
            POD_SPEC,
            "{$setElementOrder/containers: [{name: a}], containers: [{name: b}]}",
            500,
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
        (
            DEPLOYMENT,
            "{strategy: {$retainKeys: [type], rollingUpdate: {}}}",
            400,
            "invalid patch format of retainKeys",
        ),
    ] {
        let doc =
            yaml("{containers: [{name: a}], securityContext: {}, finalizers: [a/a], strategy: {type: x}}");
        let status = strategic_merge_patch(schema, &doc, &yaml(patch)).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message), "{patch}");
    }
    // What is no list takes nothing out of one.
    let doc = yaml("{finalizers: [a/a]}");
    let patch = yaml("{$deleteFromPrimitiveList/finalizers: a/a}");
    assert_eq!(strategic_merge_patch(META, &doc, &patch).unwrap(), doc);
}
