package clientgo

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"

	"k8s.io/apimachinery/pkg/runtime"
)

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

func TestTypedObjectsMakeTheRoundTrip(t *testing.T) {
	ctx, maps := within(t), typed(t).CoreV1().ConfigMaps(namespace(t))
	made, err := maps.Create(ctx, configMap("one", map[string]string{"a": "1"}), metav1.CreateOptions{})
	must(t, err)
	_, err = maps.Create(ctx, configMap("one", nil), metav1.CreateOptions{})
	if !errors.IsAlreadyExists(err) {
		t.Fatalf("a second one of the name: %v", err)
	}
	changed := made.DeepCopy()
	changed.Data["b"] = "2"
	_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	must(t, err)
	_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	if !errors.IsConflict(err) {
		t.Fatalf("an update of an old version: %v", err)
	}
	for kind, patch := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op": "add", "path": "/data/json", "value": "x"}]`,
		types.MergePatchType:          `{"data": {"merge": "x"}}`,
		types.StrategicMergePatchType: `{"data": {"strategic": "x"}}`,
	} {
		_, err = maps.Patch(ctx, "one", kind, []byte(patch), metav1.PatchOptions{})
		must(t, err)
	}
	got, err := maps.Get(ctx, "one", metav1.GetOptions{})
	must(t, err)
	if len(got.Data) != 5 {
		t.Fatalf("after all patches: %v", got.Data)
	}
	must(t, maps.Delete(ctx, "one", metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &made.UID},
	}))
	_, err = maps.Get(ctx, "one", metav1.GetOptions{})
	if !isNotFound(err) {
		t.Fatalf("after the delete: %v", err)
	}
}

func TestProtobufIsUnderstood(t *testing.T) {
	config := rest.CopyConfig(config(t))
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	ctx, space := within(t), namespace(t)
	made, err := client.CoreV1().Secrets(space).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{"l": "v"}},
		Data:       map[string][]byte{"k": {0, 1, 2, 255}},
	}, metav1.CreateOptions{})
	must(t, err)
	if string(made.Data["k"]) != "\x00\x01\x02\xff" || made.Labels["l"] != "v" {
		t.Fatalf("came back as %v", made)
	}
	_, err = client.RbacV1().Roles(space).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	must(t, err)
}

func TestWritersWhoRaceAllGetThroughWhenTheyTryAgain(t *testing.T) {
	ctx, maps := within(t), typed(t).CoreV1().ConfigMaps(namespace(t))
	_, err := maps.Create(ctx, configMap("raced", map[string]string{}), metav1.CreateOptions{})
	must(t, err)
	failures := make(chan error, 8)
	for writer := range 8 {
		go func() {
			failures <- retry.OnError(retry.DefaultBackoff, errors.IsConflict, func() error {
				got, err := maps.Get(ctx, "raced", metav1.GetOptions{})
				if err != nil {
					return err
				}
				if got.Data == nil {
					got.Data = map[string]string{}
				}
				got.Data[string(rune('a'+writer))] = "was here"
				_, err = maps.Update(ctx, got, metav1.UpdateOptions{})
				return err
			})
		}()
	}
	through := 0
	for range 8 {
		if err := <-failures; err == nil {
			through++
		} else if !errors.IsConflict(err) {
			t.Fatal(err)
		}
	}
	got, err := maps.Get(ctx, "raced", metav1.GetOptions{})
	must(t, err)
	if len(got.Data) != through || through == 0 {
		t.Fatalf("%d writers got through, and %d are seen", through, len(got.Data))
	}
}

func TestServerSideApplyKnowsWhoOwnsWhat(t *testing.T) {
	ctx, space := within(t), namespace(t)
	maps := typed(t).CoreV1().ConfigMaps(space)
	mine := applycorev1.ConfigMap("shared", space).WithData(map[string]string{"colour": "red"})
	_, err := maps.Apply(ctx, mine, metav1.ApplyOptions{FieldManager: "mine"})
	must(t, err)
	theirs := applycorev1.ConfigMap("shared", space).WithData(map[string]string{"colour": "blue"})
	_, err = maps.Apply(ctx, theirs, metav1.ApplyOptions{FieldManager: "theirs"})
	if !errors.IsConflict(err) {
		t.Fatalf("applying what another owns: %v", err)
	}
	got, err := maps.Apply(ctx, theirs, metav1.ApplyOptions{FieldManager: "theirs", Force: true})
	must(t, err)
	if got.Data["colour"] != "blue" {
		t.Fatalf("by force: %v", got.Data)
	}
	extracted, err := applycorev1.ExtractConfigMap(got, "theirs")
	must(t, err)
	if extracted.Data["colour"] != "blue" {
		t.Fatalf("extracted: %v", extracted.Data)
	}
}

func TestListsComeInPages(t *testing.T) {
	ctx, maps := within(t), typed(t).CoreV1().ConfigMaps(namespace(t))
	for number := range 30 {
		made := configMap("m"+string(rune('a'+number%26))+string(rune('a'+number/26)), nil)
		made.Labels = map[string]string{"page": "yes"}
		_, err := maps.Create(ctx, made, metav1.CreateOptions{})
		must(t, err)
	}
	seen := 0
	all := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return maps.List(ctx, options)
	}))
	all.PageSize = 7
	must(t, all.EachListItem(ctx, metav1.ListOptions{LabelSelector: "page=yes"}, func(runtime.Object) error {
		seen++
		return nil
	}))
	if seen != 30 {
		t.Fatalf("%d of 30 are seen", seen)
	}
}

func TestAWatchTellsOfEveryChange(t *testing.T) {
	ctx, maps := within(t), typed(t).CoreV1().ConfigMaps(namespace(t))
	list, err := maps.List(ctx, metav1.ListOptions{})
	must(t, err)
	events, err := maps.Watch(ctx, metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, FieldSelector: "metadata.name=w", AllowWatchBookmarks: true,
	})
	must(t, err)
	defer events.Stop()
	_, err = maps.Create(ctx, configMap("w", nil), metav1.CreateOptions{})
	must(t, err)
	_, err = maps.Patch(ctx, "w", types.MergePatchType, []byte(`{"data": {"a": "1"}}`), metav1.PatchOptions{})
	must(t, err)
	must(t, maps.Delete(ctx, "w", metav1.DeleteOptions{}))
	for _, wanted := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
		select {
		case event := <-events.ResultChan():
			if event.Type != wanted {
				t.Fatalf("%s instead of %s: %v", event.Type, wanted, event.Object)
			}
		case <-time.After(patience):
			t.Fatalf("no %s", wanted)
		}
	}
}

func TestTokensAreIssuedAndReviewed(t *testing.T) {
	ctx, client, space := within(t), typed(t), namespace(t)
	accounts := client.CoreV1().ServiceAccounts(space)
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{})
	must(t, err)
	token, err := accounts.CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	as := rest.AnonymousClientConfig(config(t))
	as.BearerToken = token.Status.Token
	robot, err := kubernetes.NewForConfig(as)
	must(t, err)
	who, err := robot.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	must(t, err)
	if who.Status.UserInfo.Username != "system:serviceaccount:"+space+":robot" {
		t.Fatalf("is known as %v", who.Status.UserInfo)
	}
	_, err = robot.CoreV1().Secrets(space).List(ctx, metav1.ListOptions{})
	if !errors.IsForbidden(err) {
		t.Fatalf("a robot reads secrets: %v", err)
	}
}

func TestAPodIsEvicted(t *testing.T) {
	ctx, client, space := within(t), typed(t), namespace(t)
	pods := client.CoreV1().Pods(space)
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			// Nobody schedules it, so that it can be evicted without ever having run.
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "c", Image: "host"}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	must(t, client.PolicyV1().Evictions(space).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: space}}))
	eventually(t, "the evicted pod is gone", func() (bool, error) {
		_, err := pods.Get(ctx, "p", metav1.GetOptions{})
		return isNotFound(err), err
	})
}
