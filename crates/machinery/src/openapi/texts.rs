//! What operations and parameters are for, in a line each: clients show it, and generators write it into their code.

/// What an operation does: its `x-kubernetes-action`, its method, the kind, and the part of the object (such as `status`) that
/// it is about, if it is.
pub(super) fn operation(action: &str, method: &str, kind: &str, below: &str, custom: bool) -> String {
    let of = |words: &str| match below {
        "" => words.to_owned(),
        below => format!("{below} of {words}"),
    };
    let one = format!("{}{kind}", article(kind));
    let watched = "deprecated: use the 'watch' parameter with a list operation instead";
    match action {
        "get" => format!("read {}", of(&format!("the specified {kind}"))),
        "list" if custom => format!("list objects of kind {kind}"),
        "list" => format!("list or watch objects of kind {kind}"),
        "put" => format!("replace {}", of(&format!("the specified {kind}"))),
        "patch" => format!("partially update {}", of(&format!("the specified {kind}"))),
        "post" => format!("create {}", of(&one)),
        "delete" => format!("delete {}", of(&one)),
        "deletecollection" => format!("delete collection of {kind}"),
        "watch" => format!(
            "watch changes to an object of kind {kind}. {watched}, filtered to a single item with the 'fieldSelector' parameter."
        ),
        "watchlist" => format!("watch individual changes to a list of {kind}. {watched}."),
        _ => format!("connect {} requests to {}", method.to_uppercase(), of(kind)),
    }
}

/// Plurals have none.
fn article(kind: &str) -> &'static str {
    let plural = kind.ends_with('s') && !kind.ends_with("ss");
    match kind.chars().next() {
        _ if plural => "",
        Some('A' | 'E' | 'I' | 'O' | 'U') => "an ",
        _ => "a ",
    }
}

/// What a parameter of the query is for.
pub(super) fn query(name: &str) -> &'static str {
    match name {
        "pretty" => {
            "'true' lays the answer out in lines for people. Without it, that is done for browsers, curl and wget only."
        }
        "dryRun" => {
            "Asks for everything but the change itself: the answer is that of the real request, and nothing is stored. The one value is 'All'; any other is refused."
        }
        "fieldManager" => {
            "The name under which the fields of this write are owned, at most 128 printable characters. An apply must name it; for other writes it is taken from the user agent."
        }
        "fieldValidation" => {
            "What becomes of unknown and repeated fields: 'Ignore' drops them silently, 'Warn' (as without it) tells them in warnings, 'Strict' refuses the request and names all of them."
        }
        "force" => {
            "Lets an apply take over fields that others own, instead of being refused for the conflict. Only for apply."
        }
        "allowWatchBookmarks" => {
            "Lets a watch send events of the type \"BOOKMARK\", which carry no change, only the revision up to which the client has seen everything."
        }
        "continue" => {
            "The `continue` of the metadata of an earlier, incomplete answer: goes on with the same list where that ended. Expired ones are answered by 410, with the means to begin anew or to go on less consistently."
        }
        "fieldSelector" => {
            "Restricts the list of returned objects by their fields; without it, all are returned."
        }
        "labelSelector" => {
            "Restricts the list of returned objects by their labels; without it, all are returned."
        }
        "limit" => {
            "The most objects in one answer. If there are more, `continue` in its metadata leads to the next ones, all from the same state of the store."
        }
        "resourceVersion" => {
            "The version from which on the answer is served: for lists how new it must at least be, for watches what is seen already. Without it the newest is meant."
        }
        "resourceVersionMatch" => {
            "How `resourceVersion` counts for a list: 'Exact' is that very version, 'NotOlderThan' that or any later one."
        }
        "sendInitialEvents" => {
            "Begins a watch with events that make up the present state, closed by a bookmark with the annotation `k8s.io/initial-events-end`. Needs `resourceVersionMatch=NotOlderThan`."
        }
        "timeoutSeconds" => "Ends a list or watch after so many seconds, whatever happens on it.",
        "watch" => {
            "Watch for changes to the described resources: the answer is a stream of what is added, modified and deleted, from `resourceVersion` on."
        }
        "gracePeriodSeconds" => {
            "Seconds that the object has until it is gone; zero means at once. Without it the default of its kind holds."
        }
        "ignoreStoreReadErrorWithClusterBreakingPotential" => {
            "Deletes an object that can no longer be read from the store, skipping finalizers and preconditions. What depends on it may break."
        }
        "orphanDependents" => {
            "Deprecated, use `propagationPolicy`: whether what belongs to the object stays behind without owner."
        }
        "propagationPolicy" => {
            "What becomes of objects that belong to this one: 'Orphan' leaves them, 'Background' removes them afterwards, 'Foreground' removes them first."
        }
        "insecureSkipTLSVerifyBackend" => {
            "Takes the log from a host whose certificate cannot be verified. What comes may then be somebody else's."
        }
        "container" => "The container that is meant; may be left out where the Pod has one only.",
        "follow" => "Keeps the stream open for what is logged from now on.",
        "limitBytes" => "Ends the log after about so many bytes, wherever in a line that is.",
        "previous" => "The log of the container's last run instead of the present one.",
        "sinceSeconds" => "Only what was logged in the last so many seconds.",
        "stream" => "Which stream of the log: 'All', 'Stdout' or 'Stderr'.",
        "tailLines" => "Only so many lines from the end of the log.",
        "timestamps" => "Puts the time before each line of the log, as in RFC 3339.",
        "command" => "The command and each of its arguments, not run by a shell.",
        "stderr" => "Whether standard error is sent.",
        "stdin" => "Whether standard input is taken.",
        "stdout" => "Whether standard output is sent.",
        "tty" => "Whether there is a terminal for it.",
        "ports" => "The ports to forward; needed with WebSockets.",
        "path" => "The path, and what belongs to it in the URL, that is asked for at the other end.",
        _ => "",
    }
}

/// What a parameter of the path is, in the path of an object of this kind.
pub(super) fn path(name: &str, kind: &str) -> String {
    match name {
        "name" => format!("name of the {kind}"),
        "namespace" => "the namespace that the object is in".to_owned(),
        "path" => "path to the resource".to_owned(),
        _ => String::new(),
    }
}
