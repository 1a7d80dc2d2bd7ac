package clientgo

import (
	"context"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// painter keeps a ConfigMap for each widget, and says in the widget's status what it did.
type painter struct{ client.Client }

const cleanup = "clientgo.example.com/cleanup"

func (p painter) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var widget Widget
	if err := p.Get(ctx, request.NamespacedName, &widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !widget.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(&widget, cleanup) {
			return ctrl.Result{}, p.Update(ctx, &widget)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(&widget, cleanup) {
		return ctrl.Result{}, p.Update(ctx, &widget)
	}
	paint := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: widget.Name + "-paint", Namespace: widget.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, p.Client, paint, func() error {
		paint.Data = map[string]string{"colour": widget.Spec.Colour}
		return controllerutil.SetControllerReference(&widget, paint, p.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	before := widget.DeepCopyObject().(*Widget)
	widget.Status = WidgetStatus{Painted: widget.Spec.Colour, ObservedGeneration: widget.Generation}
	return ctrl.Result{}, p.Status().Patch(ctx, &widget, client.MergeFrom(before))
}

func TestAControllerOfControllerRuntimeDoesItsWork(t *testing.T) {
	space, group := namespace(t), widgets(t)
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	must(t, clientscheme.AddToScheme(scheme))
	version := schema.GroupVersion{Group: group, Version: "v1"}
	scheme.AddKnownTypeWithName(version.WithKind("Widget"), &Widget{})
	scheme.AddKnownTypeWithName(version.WithKind("WidgetList"), &WidgetList{})
	metav1.AddToGroupVersion(scheme, version)

	manager, err := ctrl.NewManager(config(t), ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: group, LeaderElectionNamespace: space,
		LeaderElectionReleaseOnCancel: true,
	})
	must(t, err)
	must(t, ctrl.NewControllerManagedBy(manager).For(&Widget{}).Owns(&corev1.ConfigMap{}).
		Complete(painter{manager.GetClient()}))
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	}()

	direct, err := client.New(config(t), client.Options{Scheme: scheme})
	must(t, err)
	ctx := within(t)
	widget := &Widget{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: space}, Spec: WidgetSpec{Colour: "red"}}
	must(t, direct.Create(ctx, widget))
	paint := &corev1.ConfigMap{}
	painted := func(colour string) func() (bool, error) {
		return func() (bool, error) {
			if err := direct.Get(ctx, client.ObjectKeyFromObject(widget), widget); err != nil {
				return false, err
			}
			err := direct.Get(ctx, client.ObjectKey{Namespace: space, Name: "w-paint"}, paint)
			return err == nil && paint.Data["colour"] == colour && widget.Status.Painted == colour &&
				widget.Status.ObservedGeneration == widget.Generation, err
		}
	}
	eventually(t, "the widget is painted red", painted("red"))
	if controller := metav1.GetControllerOf(paint); controller == nil || controller.UID != widget.UID {
		t.Fatalf("the paint belongs to %v", controller)
	}
	eventually(t, "the widget's colour is changed", func() (bool, error) {
		if err := direct.Get(ctx, client.ObjectKeyFromObject(widget), widget); err != nil {
			return false, err
		}
		widget.Spec.Colour = "blue"
		err := direct.Update(ctx, widget)
		return err == nil, err
	})
	eventually(t, "the widget is painted blue", painted("blue"))
	must(t, direct.Delete(ctx, paint))
	eventually(t, "what was taken away is there again", painted("blue"))
	must(t, direct.Delete(ctx, widget))
	eventually(t, "the widget goes with what it owns", func() (bool, error) {
		widgetErr := direct.Get(ctx, client.ObjectKeyFromObject(widget), &Widget{})
		paintErr := direct.Get(ctx, client.ObjectKey{Namespace: space, Name: "w-paint"}, paint)
		return errors.IsNotFound(widgetErr) && errors.IsNotFound(paintErr), paintErr
	})
}
