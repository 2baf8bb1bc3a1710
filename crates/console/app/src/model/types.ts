// The parts of Kubernetes objects that the console reads. Everything is optional, as on the wire.

export interface Meta {
  name?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { kind: string; name: string; controller?: boolean }[];
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: Meta;
}

export interface Resources {
  limits?: Record<string, string>;
  requests?: Record<string, string>;
}

export interface ContainerStatus {
  name: string;
  ready?: boolean;
  started?: boolean;
  restartCount?: number;
  image?: string;
  imageID?: string;
  containerID?: string;
  state?: {
    waiting?: { reason?: string; message?: string };
    running?: { startedAt?: string };
    terminated?: { reason?: string; message?: string; exitCode?: number; finishedAt?: string };
  };
}

export interface Container {
  name: string;
  image?: string;
  resources?: Resources;
  restartPolicy?: string;
  ports?: { containerPort: number; protocol?: string; name?: string }[];
}

export interface Pod extends KubeObject {
  spec?: {
    nodeName?: string;
    restartPolicy?: string;
    serviceAccountName?: string;
    resources?: Resources;
    containers?: Container[];
    initContainers?: Container[];
  };
  status?: {
    phase?: string;
    reason?: string;
    message?: string;
    podIP?: string;
    hostIP?: string;
    startTime?: string;
    qosClass?: string;
    conditions?: Condition[];
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
  };
}

export interface Node extends KubeObject {
  spec?: { unschedulable?: boolean; podCIDR?: string };
  status?: {
    capacity?: Record<string, string>;
    allocatable?: Record<string, string>;
    conditions?: Condition[];
    addresses?: { type: string; address: string }[];
    nodeInfo?: Record<string, string>;
    images?: unknown[];
  };
}

export interface Namespace extends KubeObject {
  status?: { phase?: string };
}

export interface SupervisorNamespace extends KubeObject {
  spec?: {
    description?: string;
    limits?: Record<string, string>;
    permissions?: { subject: string; kind?: string; role: string }[];
  };
  status?: { phase?: string; conditions?: Condition[]; used?: Record<string, string> };
}

export interface Quota extends KubeObject {
  status?: { hard?: Record<string, string>; used?: Record<string, string> };
}

export interface KubeEvent extends KubeObject {
  type?: string;
  reason?: string;
  message?: string;
  count?: number;
  lastTimestamp?: string;
  eventTime?: string;
  involvedObject?: { kind?: string; name?: string; namespace?: string; uid?: string };
}

export interface Service extends KubeObject {
  spec?: { type?: string; clusterIP?: string; ports?: { port: number; protocol?: string }[] };
  status?: { loadBalancer?: { ingress?: { ip?: string }[] } };
}

export interface Deployment extends KubeObject {
  spec?: { replicas?: number; template?: { spec?: { containers?: Container[] } } };
  status?: { readyReplicas?: number; replicas?: number; updatedReplicas?: number; availableReplicas?: number };
}

export interface PodMetrics extends KubeObject {
  timestamp?: string;
  containers?: { name: string; usage?: Record<string, string> }[];
  /** Podvisor's own: what the hypervisor says of the whole VM. */
  vm?: {
    vcpus?: number;
    memory?: string;
    usage?: Record<string, string>;
    /** The last hour, with the first measurement of a watch. */
    history?: { seconds: number; columns: string[]; points: number[][] };
  };
}
