"""Writes the parquet files in `sweep/tests/data`: run it there, with pyarrow installed."""

import pyarrow as pa, pyarrow.parquet as pq
ans=pa.struct([("text",pa.list_(pa.string())),("answer_start",pa.list_(pa.int32()))])
rows=[
 {"id":"1","title":"T","context":"The tower (1889) is in Paris.","question":"Where is it?","answers":{"text":["Paris","in Paris"],"answer_start":[22,19]}},
 {"id":"2","title":"T","context":"It's tall.","question":"How tall's it?","answers":{"text":["tall"],"answer_start":[5]}},
 {"id":"3","title":None,"context":"x","question":"y","answers":{"text":["the"],"answer_start":[0]}},
]
t=pa.Table.from_pylist(rows,schema=pa.schema([("id",pa.string()),("title",pa.string()),("context",pa.string()),("question",pa.string()),("answers",ans)]))
pq.write_table(t,"squad.parquet",compression="snappy",row_group_size=2)
pq.write_table(t,"squad_v2_zstd.parquet",compression="zstd",data_page_version="2.0")
ch=pa.struct([("label",pa.list_(pa.string())),("text",pa.list_(pa.string()))])
t=pa.Table.from_pylist([{"question":f"Q{i}","choices":{"label":list("ABCDE"),"text":[f"{c}{i}" for c in "vwxyz"]},"answerKey":"ABCDE"[i%5]} for i in range(1500)],
  schema=pa.schema([("question",pa.string()),("choices",ch),("answerKey",pa.string())]))
pq.write_table(t,"commonsense_qa.parquet",compression="zstd",row_group_size=1000)
nested=pa.schema([("i",pa.int64()),("f",pa.float32()),("d",pa.float64()),("b",pa.bool_()),("s",pa.string()),
  ("ll",pa.list_(pa.list_(pa.int32()))),("ls",pa.list_(pa.struct([("a",pa.string()),("n",pa.list_(pa.int16()))]))),("r",pa.struct([("x",pa.struct([("y",pa.string())]))])),("bin",pa.binary()),("t",pa.timestamp("us"))])
rows=[
 {"i":1,"f":3.8,"d":0.1,"b":True,"s":"é\n","ll":[[1,2],[],[3]],"ls":[{"a":"p","n":[1]},{"a":None,"n":None}],"r":{"x":{"y":"z"}},"bin":b"\xff","t":0},
 {"i":None,"f":None,"d":float("nan"),"b":None,"s":None,"ll":None,"ls":None,"r":None,"bin":None,"t":None},
 {"i":-5,"f":2.0,"d":-2.5,"b":False,"s":"","ll":[],"ls":[],"r":{"x":None},"bin":b"ab","t":7},
 {"i":2**62,"f":0.2,"d":1e300,"b":False,"s":"q","ll":[None,[None,4]],"ls":[None,{"a":"w","n":[]}],"r":{"x":{"y":None}},"bin":b"","t":8},
]
t=pa.Table.from_pylist(rows,schema=nested)
pq.write_table(t,"nested.parquet",compression="none")
pq.write_table(t.select(["s","i"]),"gzip.parquet",compression="gzip")
