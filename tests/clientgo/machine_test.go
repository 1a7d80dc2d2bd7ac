// Package clientgo shows that programs written with client-go and controller-runtime work
// on `sandlot up` as on any Kubernetes. KUBECONFIG names the machine to work on.
package clientgo

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// The machine is loaded in test runs: what is awaited may take a while.
const patience = 60 * time.Second

func config(t *testing.T) *rest.Config {
	t.Helper()
	file := os.Getenv("KUBECONFIG")
	if file == "" {
		t.Skip("KUBECONFIG names no machine to work on")
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	must(t, err)
	config.QPS, config.Burst = 200, 400
	return config
}

func typed(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config(t))
	must(t, err)
	return client
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() (bool, error)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	var last error
	for time.Now().Before(deadline) {
		done, err := holds()
		if done {
			return
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not within %v: %s (%v)", patience, what, last)
}

// namespace makes a namespace of the test's own.
func namespace(t *testing.T) string {
	t.Helper()
	spaces := typed(t).CoreV1().Namespaces()
	made, err := spaces.Create(within(t), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "clientgo-"},
	}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		_ = spaces.Delete(context.Background(), made.Name, metav1.DeleteOptions{})
	})
	return made.Name
}

// Widget is a kind of the tests' own.
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WidgetSpec   `json:"spec,omitempty"`
	Status            WidgetStatus `json:"status,omitempty"`
}

// WidgetSpec says what is wanted.
type WidgetSpec struct {
	Colour   string `json:"colour,omitempty"`
	Replicas int32  `json:"replicas,omitempty"`
}

// WidgetStatus says what there is.
type WidgetStatus struct {
	Painted            string `json:"painted,omitempty"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

// WidgetList is a list of widgets.
type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

// DeepCopyObject copies a widget.
func (w *Widget) DeepCopyObject() runtime.Object {
	copied := *w
	copied.ObjectMeta = *w.ObjectMeta.DeepCopy()
	return &copied
}

// DeepCopyObject copies a list.
func (l *WidgetList) DeepCopyObject() runtime.Object {
	copied := *l
	copied.Items = make([]Widget, len(l.Items))
	for i := range l.Items {
		copied.Items[i] = *l.Items[i].DeepCopyObject().(*Widget)
	}
	return &copied
}

const definition = `
metadata: {name: widgets.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              colour: {type: string, enum: [red, green, blue]}
              replicas: {type: integer, default: 1}
          status:
            type: object
            properties:
              painted: {type: string}
              replicas: {type: integer}
              observedGeneration: {type: integer}
`

// widgets defines the kind in a group of the test's own, and waits until it is served.
func widgets(t *testing.T) (group string) {
	t.Helper()
	group = fmt.Sprintf("g%d.clientgo.example.com", time.Now().UnixNano())
	client, err := extensions.NewForConfig(config(t))
	must(t, err)
	var crd apiextensionsv1.CustomResourceDefinition
	must(t, yaml.Unmarshal([]byte(fmt.Sprintf(definition, group)), &crd))
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	_, err = crds.Create(within(t), &crd, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		_ = crds.Delete(context.Background(), crd.Name, metav1.DeleteOptions{})
	})
	eventually(t, "the definition is established", func() (bool, error) {
		got, err := crds.Get(within(t), crd.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, condition := range got.Status.Conditions {
			if condition.Type == apiextensionsv1.Established {
				return condition.Status == apiextensionsv1.ConditionTrue, nil
			}
		}
		return false, nil
	})
	return group
}

func isNotFound(err error) bool {
	return errors.IsNotFound(err)
}
