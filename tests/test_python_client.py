"""The official Python client, typed and dynamic, against `sandlot up`."""

import threading
import uuid

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

from test_kubectl import widgets


@pytest.fixture(scope="module")
def api_client(machine):
    return config.new_client_from_config(str(machine.kubeconfig))


@pytest.fixture
def core(api_client):
    return client.CoreV1Api(api_client)


def configmap(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"made": "here"}), data=data)


def test_typed_objects_make_the_round_trip(core, namespace):
    created = core.create_namespaced_config_map(namespace, configmap("one", a="1"))
    uuid.UUID(created.metadata.uid)
    created.data["b"] = "2"
    replaced = core.replace_namespaced_config_map("one", namespace, created)
    assert replaced.data == {"a": "1", "b": "2"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("one", namespace, created)
    assert stale.value.status == 409 and "the object has been modified" in stale.value.body
    patched = core.patch_namespaced_config_map("one", namespace, {"data": {"a": None}})
    assert patched.data == {"b": "2"}
    core.delete_namespaced_config_map("one", namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("one", namespace)
    assert gone.value.status == 404


def test_a_watch_sees_every_change_once_and_in_order(core, namespace):
    start = core.list_namespaced_config_map(namespace).metadata.resource_version
    seen, done = [], threading.Event()

    def follow():
        for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version=start,
                                          label_selector="made=here", timeout_seconds=30):
            seen.append((event["type"], event["object"].data["n"]))
            if len(seen) == 5:
                done.set()
                return

    threading.Thread(target=follow, daemon=True).start()
    core.create_namespaced_config_map(namespace, configmap("w", n="0"))
    for n in "123":
        core.patch_namespaced_config_map("w", namespace, {"data": {"n": n}})
    core.delete_namespaced_config_map("w", namespace)
    assert done.wait(20)
    assert seen == [("ADDED", "0"), ("MODIFIED", "1"), ("MODIFIED", "2"), ("MODIFIED", "3"), ("DELETED", "3")]


def test_lists_are_paged_consistently(core, namespace):
    for n in range(25):
        core.create_namespaced_config_map(namespace, configmap(f"p{n:02}", n=str(n)))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, limit=10, label_selector="made=here", _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"p{n:02}" for n in range(25)]


def test_custom_objects_have_a_status_of_their_own(machine, api_client, namespace):
    widgets(machine)
    custom = client.CustomObjectsApi(api_client)
    where = ("shop.example.com", "v1", namespace, "widgets")
    custom.create_namespaced_custom_object(*where, {
        "apiVersion": "shop.example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"colour": "red"}, "status": {"replicas": 9}})
    got = custom.get_namespaced_custom_object(*where, "w")
    assert "status" not in got and got["metadata"]["generation"] == 1
    got["status"] = {"replicas": 2}
    got["spec"]["colour"] = "blue"
    custom.replace_namespaced_custom_object_status(*where, "w", got)
    got = custom.get_namespaced_custom_object(*where, "w")
    assert got["status"] == {"replicas": 2} and got["spec"]["colour"] == "red" and got["metadata"]["generation"] == 1
    custom.patch_namespaced_custom_object(*where, "w", {"spec": {"colour": "blue"}})
    assert custom.get_namespaced_custom_object(*where, "w")["metadata"]["generation"] == 2


def test_the_dynamic_client_finds_kinds_by_discovery(machine, api_client, namespace):
    widgets(machine)
    kinds = dynamic.DynamicClient(api_client)
    resource = kinds.resources.get(api_version="shop.example.com/v1", kind="Widget")
    resource.create({"apiVersion": "shop.example.com/v1", "kind": "Widget", "metadata": {"name": "d"},
                     "spec": {"colour": "green"}}, namespace=namespace)
    assert [item.metadata.name for item in resource.get(namespace=namespace).items] == ["d"]
    applied = resource.server_side_apply(
        {"apiVersion": "shop.example.com/v1", "kind": "Widget", "metadata": {"name": "d"}, "spec": {"note": "mine"}},
        name="d", namespace=namespace, field_manager="tests")
    assert applied.spec.note == "mine" and applied.spec.colour == "green"
    resource.delete(name="d", namespace=namespace)


def test_yaml_files_are_created_by_the_clients_own_helper(machine, api_client, namespace, tmp_path):
    file = tmp_path / "cm.yaml"
    file.write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: from-file, namespace: {namespace}}}\ndata: {{k: v}}\n")
    utils.create_from_yaml(api_client, str(file))
    assert client.CoreV1Api(api_client).read_namespaced_config_map("from-file", namespace).data == {"k": "v"}


def test_strangers_stay_outside(machine, api_client):
    stranger = client.Configuration()
    stranger.host = api_client.configuration.host
    stranger.ssl_ca_cert = api_client.configuration.ssl_ca_cert
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(client.ApiClient(stranger)).list_namespaced_secret("default")
    assert refused.value.status in (401, 403)
    stranger.api_key = {"authorization": "Bearer not-a-token"}
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(client.ApiClient(stranger)).list_namespaced_secret("default")
    assert refused.value.status == 401


def test_the_dynamic_client_watches(machine, api_client, namespace):
    widgets(machine)
    resource = dynamic.DynamicClient(api_client).resources.get(api_version="shop.example.com/v1", kind="Widget")
    widget = {"apiVersion": "shop.example.com/v1", "kind": "Widget", "metadata": {"name": "seen"},
              "spec": {"colour": "green"}}
    start = resource.get(namespace=namespace).metadata.resourceVersion
    resource.create(widget, namespace=namespace)
    resource.patch({"metadata": {"name": "seen"}, "spec": {"colour": "blue"}}, name="seen", namespace=namespace,
                   content_type="application/merge-patch+json")
    resource.delete(name="seen", namespace=namespace)
    seen = []
    for event in resource.watch(namespace=namespace, resource_version=start, timeout=20):
        seen.append((event["type"], event["object"].spec.colour))
        if len(seen) == 3:
            break
    assert seen == [("ADDED", "green"), ("MODIFIED", "blue"), ("DELETED", "blue")]


def test_a_watch_from_too_long_ago_is_told_so(core, namespace):
    with pytest.raises(ApiException) as expired:
        for _ in watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version="999999999",
                                      timeout_seconds=10):
            break
    assert expired.value.status == 410


def test_a_command_runs_in_a_pod(machine, core, namespace):
    from kubernetes.stream import stream
    core.create_namespaced_pod(namespace, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "host", "command": ["sleep", "600"]}]}})
    machine.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s", timeout=90)
    said = stream(core.connect_get_namespaced_pod_exec, "p", namespace, command=["echo", "hello"],
                  stdout=True, stderr=True, stdin=False, tty=False)
    assert said == "hello\n"
