package clientgo

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
)

func TestDiscoveryNamesEveryKind(t *testing.T) {
	group := widgets(t)
	client, err := discovery.NewDiscoveryClientForConfig(config(t))
	must(t, err)
	groups, resources, err := client.ServerGroupsAndResources()
	must(t, err)
	if len(groups) < 5 {
		t.Fatalf("only %d groups", len(groups))
	}
	found := map[string]bool{}
	for _, list := range resources {
		for _, resource := range list.APIResources {
			found[list.GroupVersion+" "+resource.Name] = true
		}
	}
	for _, name := range []string{"v1 pods", "v1 pods/log", "coordination.k8s.io/v1 leases", group + "/v1 widgets", group + "/v1 widgets/status", group + "/v1 widgets/scale"} {
		if !found[name] {
			t.Errorf("%s is not listed", name)
		}
	}
	version, err := client.ServerVersion()
	must(t, err)
	if version.Major != "1" {
		t.Errorf("version %v", version)
	}
	document, err := client.OpenAPISchema()
	must(t, err)
	if len(document.GetDefinitions().GetAdditionalProperties()) < 100 {
		t.Error("OpenAPI v2 knows hardly anything")
	}
	paths, err := client.OpenAPIV3().Paths()
	must(t, err)
	if _, served := paths["apis/"+group+"/v1"]; !served {
		t.Errorf("OpenAPI v3 does not know %s", group)
	}
}

func TestKindsAreMappedAndUsedDynamically(t *testing.T) {
	ctx, space, group := within(t), namespace(t), widgets(t)
	discovered, err := discovery.NewDiscoveryClientForConfig(config(t))
	must(t, err)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovered))
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: group, Kind: "Widget"})
	must(t, err)
	client, err := dynamic.NewForConfig(config(t))
	must(t, err)
	all := client.Resource(mapping.Resource).Namespace(space)
	widget := func(colour string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": group + "/v1", "kind": "Widget",
			"metadata": map[string]any{"name": "w"},
			"spec":     map[string]any{"colour": colour},
		}}
	}
	_, err = all.Create(ctx, widget("mauve"), metav1.CreateOptions{})
	if !errors.IsInvalid(err) {
		t.Fatalf("mauve: %v", err)
	}
	made, err := all.Create(ctx, widget("red"), metav1.CreateOptions{})
	must(t, err)
	if replicas, _, _ := unstructured.NestedInt64(made.Object, "spec", "replicas"); replicas != 1 {
		t.Fatalf("the default is %d", replicas)
	}
	applied, err := all.Apply(ctx, "w", widget("red"), metav1.ApplyOptions{FieldManager: "tests"})
	must(t, err)
	must(t, unstructured.SetNestedField(applied.Object, "red", "status", "painted"))
	applied, err = all.UpdateStatus(ctx, applied, metav1.UpdateOptions{})
	must(t, err)
	if painted, _, _ := unstructured.NestedString(applied.Object, "status", "painted"); painted != "red" || applied.GetGeneration() != 1 {
		t.Fatalf("painted %q in generation %d", painted, applied.GetGeneration())
	}

	kinds := scale.NewDiscoveryScaleKindResolver(discovered)
	scales, err := scale.NewForConfig(config(t), mapper, dynamic.LegacyAPIPathResolverFunc, kinds)
	must(t, err)
	resource := mapping.Resource.GroupResource()
	size, err := scales.Scales(space).Get(ctx, resource, "w", metav1.GetOptions{})
	must(t, err)
	size.Spec.Replicas = 3
	_, err = scales.Scales(space).Update(ctx, resource, size, metav1.UpdateOptions{})
	must(t, err)

	only, err := metadata.NewForConfig(config(t))
	must(t, err)
	partial, err := only.Resource(mapping.Resource).Namespace(space).List(ctx, metav1.ListOptions{})
	must(t, err)
	if len(partial.Items) != 1 || partial.Items[0].Generation != 2 {
		t.Fatalf("metadata alone: %v", partial.Items)
	}
	must(t, all.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
}
