-- 200 while the entrypoint's loop gets a feature out of the database, else 503.
local file = io.open("/run/gislab/healthy")
if file == nil then
    lighty.content = {"no feature of the layer alive\n"}
    return 503
end
file:close()
lighty.content = {"ok\n"}
return 200
