"""What people type: the real kubectl against `sandlot up`."""

import json

from conftest import eventually

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wdg], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Colour, type: string, jsonPath: .spec.colour}
    - {name: Wide, type: string, jsonPath: .spec.note, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [colour]
            x-kubernetes-validations:
            - {rule: "self.colour != 'beige'", message: "beige is not a colour"}
            properties:
              colour: {type: string, enum: [red, green, blue, beige], description: What it looks like.}
              replicas: {type: integer, minimum: 0, default: 1}
              note: {type: string}
          status:
            type: object
            properties: {replicas: {type: integer}}
"""

RED = """
apiVersion: shop.example.com/v1
kind: Widget
metadata: {name: one}
spec: {colour: red}
"""


def widgets(machine):
    machine.kubectl("apply", "-f", "-", stdin=WIDGETS)
    machine.kubectl("wait", "--for=condition=Established", "crd/widgets.shop.example.com", "--timeout=10s")


def test_the_kubeconfig_is_private_and_names_a_reachable_cluster(machine):
    assert machine.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert "is running at" in machine.kubectl("cluster-info").stdout
    version = json.loads(machine.kubectl("version", "-o", "json").stdout)
    assert version["serverVersion"]["major"] == "1"


def test_api_resources_list_what_is_served(machine):
    names = machine.kubectl("api-resources", "-o", "name").stdout.split()
    for name in ["pods", "configmaps", "namespaces", "events", "leases.coordination.k8s.io",
                 "customresourcedefinitions.apiextensions.k8s.io", "roles.rbac.authorization.k8s.io"]:
        assert name in names
    short = machine.kubectl("api-resources").stdout
    assert " po " in short and " cm " in short


def test_a_configmap_is_created_read_changed_and_deleted(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more).stdout
    assert kubectl("create", "configmap", "settings", "--from-literal=a=1") == "configmap/settings created\n"
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.a}") == "1"
    kubectl("patch", "cm", "settings", "-p", '{"data":{"b":"2"}}')
    kubectl("patch", "cm", "settings", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    kubectl("patch", "cm", "settings", "--type=merge", "-p", '{"data":{"c":"3"}}')
    kubectl("label", "cm", "settings", "tier=front")
    kubectl("annotate", "cm", "settings", "note=kept")
    got = json.loads(kubectl("get", "cm", "-l", "tier=front", "-o", "json"))["items"][0]
    assert got["data"] == {"b": "2", "c": "3"}
    assert got["metadata"]["annotations"]["note"] == "kept"
    assert "settings" in kubectl("describe", "cm", "settings")
    kubectl("delete", "cm", "settings")
    assert "NotFound" in machine.kubectl("-n", namespace, "get", "cm", "settings", check=False).stderr


def test_typed_creates_are_understood(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("create", "secret", "generic", "key", "--from-literal=k=v")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "rolebinding", "robot-reads", "--role=reader", f"--serviceaccount={namespace}:robot")
    kubectl("create", "service", "clusterip", "front", "--tcp=80:8080")
    assert kubectl("get", "secret", "key", "-o", "jsonpath={.data.k}") == "dg=="
    assert kubectl("get", "svc", "front", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    assert kubectl("auth", "can-i", "get", "pods") == "yes\n"
    as_robot = f"--as=system:serviceaccount:{namespace}:robot"
    assert machine.kubectl("-n", namespace, "auth", "can-i", "list", "pods", as_robot).stdout == "yes\n"
    assert machine.kubectl("-n", namespace, "auth", "can-i", "delete", "pods", as_robot, check=False).stdout == "no\n"
    assert "system:masters" in kubectl("auth", "whoami")
    assert kubectl("create", "token", "robot").count(".") == 2


def test_a_custom_kind_has_columns_defaults_rules_and_words(machine, namespace):
    widgets(machine)
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    kubectl("apply", "-f", "-", stdin=RED)
    table = kubectl("get", "wdg").stdout.splitlines()
    assert table[0].split() == ["NAME", "COLOUR"]
    assert table[1].split() == ["one", "red"]
    assert "WIDE" in kubectl("get", "widgets", "-o", "wide").stdout
    assert kubectl("get", "widget", "one", "-o", "jsonpath={.spec.replicas}").stdout == "1"
    refused = kubectl("apply", "-f", "-", stdin=RED.replace("red", "beige"), check=False)
    assert "beige is not a colour" in refused.stderr
    refused = kubectl("apply", "-f", "-", stdin=RED.replace("red", "mauve"), check=False)
    assert 'Unsupported value: "mauve"' in refused.stderr
    refused = kubectl("apply", "-f", "-", stdin=RED.replace("colour: red", "colour: red, size: 3"), check=False)
    assert 'unknown field "spec.size"' in refused.stderr
    kubectl("scale", "widget/one", "--replicas=4")
    assert kubectl("get", "widget", "one", "-o", "jsonpath={.spec.replicas}").stdout == "4"
    assert "What it looks like." in kubectl("explain", "widget.spec.colour").stdout
    assert "widget.shop.example.com/one" in kubectl("get", "all", "-o", "name").stdout


def test_explain_knows_the_built_in_kinds(machine):
    assert "containers" in machine.kubectl("explain", "pod.spec").stdout
    assert "command" in machine.kubectl("explain", "pod.spec.containers.command").stdout


def test_apply_diff_and_server_side_apply_agree_on_owners(machine, namespace):
    manifest = lambda value: f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: shared}}
data: {{colour: {value}}}
"""
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)
    assert "created" in kubectl("apply", "-f", "-", stdin=manifest("red")).stdout
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest("red")).stdout
    different = kubectl("diff", "-f", "-", stdin=manifest("blue"), check=False)
    assert different.returncode == 1 and "+  colour: blue" in different.stdout
    assert "configured" in kubectl("apply", "-f", "-", stdin=manifest("blue")).stdout
    conflict = kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=manifest("green"), check=False)
    assert "conflict" in conflict.stderr and ".data.colour" in conflict.stderr
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-", stdin=manifest("green"))
    assert kubectl("get", "cm", "shared", "-o", "jsonpath={.data.colour}").stdout == "green"
    managers = kubectl("get", "cm", "shared", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}").stdout
    assert "other" in managers.split()


def test_dry_run_changes_nothing(machine, namespace):
    created = machine.kubectl("-n", namespace, "create", "configmap", "ghost", "--dry-run=server")
    assert "created (server dry run)" in created.stdout
    assert "NotFound" in machine.kubectl("-n", namespace, "get", "cm", "ghost", check=False).stderr


def test_a_deleted_owner_takes_its_dependents_along_unless_orphaned(machine, namespace):
    kubectl = lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)

    def family(name):
        kubectl("create", "configmap", name)
        uid = kubectl("get", "cm", name, "-o", "jsonpath={.metadata.uid}").stdout
        child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name + "-child", "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": True}]}}
        kubectl("create", "-f", "-", stdin=json.dumps(child))

    gone = lambda name: kubectl("get", "cm", name, check=False).returncode == 1
    for cascade in ["background", "foreground"]:
        family(cascade)
        kubectl("delete", "cm", cascade, f"--cascade={cascade}")
        eventually(lambda: gone(cascade) and gone(cascade + "-child"))
    family("orphan")
    kubectl("delete", "cm", "orphan", "--cascade=orphan")
    eventually(lambda: gone("orphan"))
    assert kubectl("get", "cm", "orphan-child", "-o", "jsonpath={.metadata.ownerReferences}").stdout == ""


def test_a_deleted_namespace_goes_with_all_that_is_in_it(machine):
    machine.kubectl("create", "namespace", "doomed")
    machine.kubectl("-n", "doomed", "create", "configmap", "inside")
    machine.kubectl("delete", "namespace", "doomed", "--timeout=20s")
    assert "NotFound" in machine.kubectl("get", "namespace", "doomed", check=False).stderr


def test_big_lists_come_in_chunks(machine, namespace):
    many = "\n---\n".join(
        json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"n{i:03}"}}) for i in range(120))
    machine.kubectl("-n", namespace, "create", "-f", "-", stdin=many)
    names = machine.kubectl("-n", namespace, "get", "cm", "--chunk-size=7", "-o", "name").stdout.split()
    assert sum(name.startswith("configmap/n") for name in names) == 120


def test_mistakes_are_answered_in_kubernetes_words(machine, namespace):
    fails = lambda *args, **more: machine.kubectl("-n", namespace, *args, check=False, **more).stderr
    assert 'configmaps "nothing" not found' in fails("get", "cm", "nothing")
    machine.kubectl("-n", namespace, "create", "configmap", "twice")
    assert "already exists" in fails("create", "configmap", "twice")
    assert "doesn't have a resource type" in fails("get", "gizmos")
    bad_name = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_A_Name"}})
    assert "a lowercase RFC 1123 subdomain" in fails("create", "-f", "-", stdin=bad_name)
