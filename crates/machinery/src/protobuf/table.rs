//! The table of messages, read once from the text that the generator writes.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::special::Special;

/// Written by `cargo xtask gen-protobuf`, which takes stable versions only; the few beta kinds that are served are kept by
/// hand beside them.
const TAGS: &str = concat!(include_str!("tags.txt"), include_str!("tags_beta.txt"));

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Sorted by number.
    pub fields: Vec<Field>,
    /// Its JSON form is not an object of its fields.
    pub special: Option<Special>,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub tag: u32,
    /// Name in JSON. Fields that JSON writes in place have none.
    pub json: &'static str,
    pub inline: bool,
    pub ty: Type,
    pub shape: Shape,
    /// Whether zero on the wire says something, see [`keeps_zero`].
    pub keeps_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Integer,
    Boolean,
    Double,
    /// Index of a message.
    Message(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Repeated,
    /// With keys of text.
    Map,
}

/// All messages.
#[derive(Debug)]
pub(super) struct Table {
    messages: Vec<Message>,
    names: HashMap<&'static str, usize>,
}

impl Table {
    /// The message of a definition name.
    pub(super) fn find(&self, name: &str) -> Option<&Message> {
        self.names.get(name).map(|index| &self.messages[*index])
    }

    /// The message of an index from [`Type::Message`].
    pub(super) fn get(&self, index: usize) -> &Message {
        &self.messages[index]
    }
}

impl Message {
    pub(super) fn field(&self, tag: u32) -> Option<&Field> {
        self.fields
            .binary_search_by_key(&tag, |field| field.tag)
            .ok()
            .map(|index| &self.fields[index])
    }
}

/// The one table.
pub(super) fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(read);
    &TABLE
}

fn read() -> Table {
    let heads = TAGS.lines().filter(|line| !line.starts_with(' '));
    let names: HashMap<&str, usize> = heads.enumerate().map(|(index, name)| (name, index)).collect();
    let mut messages: Vec<Message> = Vec::with_capacity(names.len());
    let mut name = "";
    for line in TAGS.lines() {
        match line.strip_prefix(' ') {
            None => {
                name = line;
                messages.push(Message {
                    fields: Vec::new(),
                    special: Special::of(name),
                });
            }
            Some(line) => {
                if let (Some(message), Some(field)) = (messages.last_mut(), read_field(name, line, &names)) {
                    message.fields.push(field);
                }
            }
        }
    }
    for message in &mut messages {
        message.fields.sort_by_key(|field| field.tag);
    }
    Table { messages, names }
}

fn read_field(message: &str, line: &'static str, names: &HashMap<&str, usize>) -> Option<Field> {
    let mut words = line.split(' ');
    let (tag, json, ty) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (letter, shape) = ty.split_at_checked(1)?;
    Some(Field {
        tag,
        json,
        inline: json == "-",
        ty: match letter {
            "s" => Type::Text,
            "b" => Type::Bytes,
            "i" => Type::Integer,
            "t" => Type::Boolean,
            "d" => Type::Double,
            _ => Type::Message(*names.get(words.next()?)?),
        },
        shape: match shape {
            "*" => Shape::Repeated,
            "{" => Shape::Map,
            _ => Shape::Single,
        },
        keeps_zero: keeps_zero(message, json),
    })
}

/// Whether a zero on the wire is a value. Go's clients write every field that is no pointer, zero or not, and JSON leaves
/// those zeros out; a zero behind a pointer was meant. The messages do not say which fields are pointers, so they
/// stand here, as do required fields, which JSON writes whatever they are.
fn keeps_zero(message: &str, json: &str) -> bool {
    let short = message.rsplit('.').next().unwrap_or(message);
    let required = kinds::schema::builtin()
        .definition(message)
        .is_some_and(|definition| definition.required.iter().any(|name| name == json));
    required || POINTERS.contains(&json) || POINTERS_OF.contains(&(short, json))
}

/// Fields that are pointers wherever they occur, or where a zero too many does no harm.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "adminAccess",
    "allocateLoadBalancerNodePorts",
    "allowMultipleAllocations",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "appProtocol",
    "attachRequired",
    "automountServiceAccountToken",
    "averageUtilization",
    "backoffLimit",
    "backoffLimitPerIndex",
    "bindsToNode",
    "blockOwnerDeletion",
    "borrowingLimitPercent",
    "cachingMode",
    "collisionCount",
    "completionMode",
    "completions",
    "controller",
    "currentAverageUtilization",
    "currentCPUUtilizationPercentage",
    "currentVolumeAttributesClassName",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "deprecationWarning",
    "distinctAttribute",
    "enableServiceLinks",
    "endpointsNamespace",
    "errorCode",
    "exclude",
    "expirationSeconds",
    "extendedResourceName",
    "failedIndexes",
    "failedJobsHistoryLimit",
    "failurePolicy",
    "force",
    "fsGroup",
    "fsGroupChangePolicy",
    "fsGroupPolicy",
    "gmsaCredentialSpec",
    "gmsaCredentialSpecName",
    "gracePeriodSeconds",
    "holderIdentity",
    "hostProcess",
    "hostUsers",
    "hostnameOverride",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "immutable",
    "ingressClassName",
    "initiatorName",
    "intVal",
    "internalTrafficPolicy",
    "ipFamilyPolicy",
    "ipMode",
    "labelSelectorPath",
    "leaseDurationSeconds",
    "leaseTransitions",
    "lendablePercent",
    "limitBytes",
    "loadBalancerClass",
    "localhostProfile",
    "lun",
    "managedBy",
    "manualSelector",
    "matchAttribute",
    "matchPolicy",
    "maxExpirationSeconds",
    "maxFailedIndexes",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maxReplicas",
    "maxSurge",
    "maxUnavailable",
    "maximum",
    "minAvailable",
    "minDomains",
    "minItems",
    "minLength",
    "minProperties",
    "minReplicas",
    "minimum",
    "mode",
    "mountPropagation",
    "multipleOf",
    "nodeAffinityPolicy",
    "nodeAllocatableUpdatePeriodSeconds",
    "nodeTaintsPolicy",
    "nominalConcurrencyShares",
    "optional",
    "optionalOldSelf",
    "orphanDependents",
    "parallelism",
    "parameterNotFoundAction",
    "partition",
    "pathType",
    "perDeviceNodeSelection",
    "percentageOfNodesToScore",
    "persistentVolumeName",
    "podInfoOnMount",
    "podReplacementPolicy",
    "preemptionPolicy",
    "preferredHolder",
    "preventPodSchedulingIfMissing",
    "priority",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "propagationPolicy",
    "readOnlyRootFilesystem",
    "ready",
    "reclaimPolicy",
    "recursiveReadOnly",
    "recursiveReadOnlyMounts",
    "remainingItemCount",
    "replicas",
    "requiresRepublish",
    "resourceClaimName",
    "resourceClaimTemplateName",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runAsUserName",
    "runtimeClassName",
    "scope",
    "seLinuxChangePolicy",
    "seLinuxMount",
    "secretNamespace",
    "selectPolicy",
    "sendInitialEvents",
    "serviceAccountTokenInSecrets",
    "serving",
    "setHostnameAsFQDN",
    "shareID",
    "shareProcessNamespace",
    "sideEffects",
    "sinceSeconds",
    "stabilizationWindowSeconds",
    "started",
    "startingDeadlineSeconds",
    "stopSignal",
    "storageCapacity",
    "succeededCount",
    "succeededIndexes",
    "successfulJobsHistoryLimit",
    "supplementalGroupsPolicy",
    "suspend",
    "tailLines",
    "targetAverageUtilization",
    "targetCPUUtilizationPercentage",
    "targetPercentage",
    "terminating",
    "terminatingReplicas",
    "terminationGracePeriodSeconds",
    "timeZone",
    "tolerationSeconds",
    "trafficDistribution",
    "ttlSecondsAfterFinished",
    "unhealthyPodEvictionPolicy",
    "userNamespaces",
    "volumeAttributesClassName",
    "volumeBindingMode",
    "volumeMode",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

/// Fields that are pointers in this message only.
const POINTERS_OF: &[(&str, &str)] = &[
    ("AzureDiskVolumeSource", "fsType"),
    ("AzureDiskVolumeSource", "kind"),
    ("AzureDiskVolumeSource", "readOnly"),
    ("CSIVolumeSource", "fsType"),
    ("CSIVolumeSource", "readOnly"),
    ("ClientIPConfig", "timeoutSeconds"),
    ("ClusterTrustBundleProjection", "name"),
    ("ClusterTrustBundleProjection", "signerName"),
    ("Container", "restartPolicy"),
    ("Device", "allNodes"),
    ("Device", "nodeName"),
    ("DeviceAttribute", "bool"),
    ("DeviceAttribute", "int"),
    ("DeviceAttribute", "string"),
    ("DeviceAttribute", "version"),
    ("Endpoint", "hostname"),
    ("Endpoint", "nodeName"),
    ("Endpoint", "zone"),
    ("EndpointAddress", "nodeName"),
    ("EndpointPort", "name"),
    ("EndpointPort", "port"),
    ("EphemeralContainerCommon", "restartPolicy"),
    ("GRPCAction", "service"),
    ("HorizontalPodAutoscalerStatus", "observedGeneration"),
    ("HostPathVolumeSource", "type"),
    ("IngressClassParametersReference", "apiGroup"),
    ("IngressClassParametersReference", "namespace"),
    ("IngressPortStatus", "error"),
    ("LeaseSpec", "strategy"),
    ("ListOptions", "timeoutSeconds"),
    ("LocalVolumeSource", "fsType"),
    ("MutatingWebhook", "reinvocationPolicy"),
    ("MutatingWebhook", "timeoutSeconds"),
    ("NetworkPolicyPort", "endPort"),
    ("NetworkPolicyPort", "port"),
    ("NetworkPolicyPort", "protocol"),
    ("NodeSwapStatus", "capacity"),
    ("Overhead", "podFixed"),
    ("PersistentVolumeClaimSpec", "storageClassName"),
    ("PodDNSConfigOption", "value"),
    ("PodFailurePolicyOnExitCodesRequirement", "containerName"),
    ("PodLogOptions", "stream"),
    ("PortStatus", "error"),
    ("Preconditions", "resourceVersion"),
    ("ResourceHealth", "message"),
    ("ServiceReference", "path"),
    ("ServiceReference", "port"),
    ("TypedObjectReference", "apiGroup"),
    ("TypedObjectReference", "namespace"),
    ("ValidatingWebhook", "timeoutSeconds"),
    ("Validation", "reason"),
    ("ValidationRule", "reason"),
    ("VolumeNodeResources", "count"),
    ("WebhookClientConfig", "url"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let lines = TAGS.lines().filter(|line| line.starts_with(' ')).count();
        let fields: usize = table().messages.iter().map(|message| message.fields.len()).sum();
        assert_eq!(fields, lines);
        for kind in kinds::builtin().iter().filter(|kind| kind.group != "podvisor.io") {
            assert!(
                table().find(kind.schema).is_some(),
                "{} has no message",
                kind.schema
            );
        }
    }
}
