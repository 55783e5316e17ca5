import json
import http.client
from tests.functions.data import *

def up(place,name,data):
    c=http.client.HTTPConnection("127.0.0.1",place.gateway.port)
    c.request("POST",f"/registry/datasets/{name}",data,{"Authorization":"Basic x","Content-Type":"text/csv"})
    r=c.getresponse(); b=json.loads(r.read()); print(r.status,{k:b[k] for k in b if k!='columns'}, [ (x['name'],x['type']) for x in b['columns']][:20])

def test_x(place): 
    for name,data,target,algos in (("breast-cancer",BREAST_CANCER.read_bytes(),"diagnosis",["logistic","random_forest","extra_trees","hist_gradient_boosting"]),("wine",mixed_wine(),"cultivar",["logistic","random_forest","hist_gradient_boosting"]),("diabetes",diabetes(),"progression",["ridge","linear","random_forest","extra_trees","hist_gradient_boosting"])):
        up(place,name,data)
        r=place.ok(place.preprocess,{"dataset":name,"target":target}); print({k:v for k,v in r.items() if k!="columns"})
        for a in algos:
            import time; t=time.time()
            s,x=place.call(place.train,{"feature_set":r["feature_set"],"model":name,"algorithm":a})
            print(a,s,time.time()-t,x)
        print(place.call(place.evaluate,{"model":name,"candidates":list(range(1,len(algos)+1))}))
