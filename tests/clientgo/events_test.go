package clientgo

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// recordOn writes an event about an object, as controllers do.
func recordOn(t *testing.T, client *kubernetes.Clientset, about *corev1.ConfigMap) {
	t.Helper()
	broadcaster := record.NewBroadcaster()
	t.Cleanup(broadcaster.Shutdown)
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{
		Interface: client.CoreV1().Events(about.Namespace),
	})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tests"})
	recorder.Event(about, corev1.EventTypeNormal, "Tested", "somebody looked")
}
