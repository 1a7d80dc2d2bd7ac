package clientgo

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/features"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// withStreamingLists turns the client's WatchList feature on.
type withStreamingLists struct{ features.Gates }

func (g withStreamingLists) Enabled(feature features.Feature) bool {
	return feature == features.WatchListClient || g.Gates.Enabled(feature)
}

func TestInformersFollowWithListsAndWithStreams(t *testing.T) {
	before := features.FeatureGates()
	for name, gates := range map[string]features.Gates{"lists": before, "streams": withStreamingLists{before}} {
		t.Run(name, func(t *testing.T) {
			features.ReplaceFeatureGates(gates)
			defer features.ReplaceFeatureGates(before)
			follow(t)
		})
	}
}

func follow(t *testing.T) {
	ctx, client, space := within(t), typed(t), namespace(t)
	maps := client.CoreV1().ConfigMaps(space)
	for number := range 20 {
		_, err := maps.Create(ctx, configMap(fmt.Sprintf("early-%d", number), nil), metav1.CreateOptions{})
		must(t, err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(space))
	informer := factory.Core().V1().ConfigMaps()
	var added, deleted atomic.Int32
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	})
	must(t, err)
	running, stop := context.WithCancel(ctx)
	factory.Start(running.Done())
	defer factory.Shutdown()
	defer stop()
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		t.Fatal("the cache never had it all")
	}
	_, err = maps.Create(ctx, configMap("late", nil), metav1.CreateOptions{})
	must(t, err)
	_, err = maps.Patch(ctx, "late", types.MergePatchType, []byte(`{"data": {"a": "1"}}`), metav1.PatchOptions{})
	must(t, err)
	must(t, maps.Delete(ctx, "early-7", metav1.DeleteOptions{}))
	eventually(t, "the cache is as the server is", func() (bool, error) {
		late, err := informer.Lister().ConfigMaps(space).Get("late")
		if err != nil || late.Data["a"] != "1" {
			return false, err
		}
		_, err = informer.Lister().ConfigMaps(space).Get("early-7")
		return isNotFound(err) && deleted.Load() >= 1, err
	})
	all, err := informer.Lister().ConfigMaps(space).List(labels.Everything())
	must(t, err)
	onServer, err := maps.List(ctx, metav1.ListOptions{})
	must(t, err)
	if len(all) != len(onServer.Items) || int(added.Load()) < 21 {
		t.Fatalf("%d in the cache, %d on the server, %d were added", len(all), len(onServer.Items), added.Load())
	}
}

func TestOneLeadsAndAnotherFollowsWhenItLetsGo(t *testing.T) {
	client, space := typed(t), namespace(t)
	var leading atomic.Int32
	took := make(chan string, 2)
	elect := func(ctx context.Context, who string) chan struct{} {
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "lead", Namespace: space},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: who},
		}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true, Name: "lead",
			LeaseDuration: 5 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: 200 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) {
					if leading.Add(1) > 1 {
						t.Error("two lead at once")
					}
					took <- who
				},
				OnStoppedLeading: func() { leading.Store(0) },
			},
		})
		must(t, err)
		ended := make(chan struct{})
		go func() {
			elector.Run(ctx)
			close(ended)
		}()
		return ended
	}
	await := func(who string) {
		t.Helper()
		select {
		case got := <-took:
			if got != who {
				t.Fatalf("%s leads, not %s", got, who)
			}
		case <-time.After(patience):
			t.Fatalf("%s never leads", who)
		}
	}
	firstCtx, stopFirst := context.WithCancel(context.Background())
	defer stopFirst()
	first := elect(firstCtx, "first")
	await("first")
	secondCtx, stopSecond := context.WithCancel(context.Background())
	second := elect(secondCtx, "second")
	stopFirst()
	<-first
	await("second")
	stopSecond()
	<-second
	lease, err := client.CoordinationV1().Leases(space).Get(within(t), "lead", metav1.GetOptions{})
	must(t, err)
	if transitions := lease.Spec.LeaseTransitions; transitions == nil || *transitions < 1 {
		t.Fatalf("the lease went over %v times", transitions)
	}
}

func TestEventsAreRecorded(t *testing.T) {
	ctx, client, space := within(t), typed(t), namespace(t)
	about, err := client.CoreV1().ConfigMaps(space).Create(ctx, configMap("about", nil), metav1.CreateOptions{})
	must(t, err)
	recordOn(t, client, about)
	eventually(t, "the event is listed by what it is about", func() (bool, error) {
		list, err := client.CoreV1().Events(space).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.name=about,reason=Tested",
		})
		return err == nil && len(list.Items) == 1 && list.Items[0].Type == corev1.EventTypeNormal, err
	})
}
