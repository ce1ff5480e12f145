# Each file below flows/ is a flow of the hub: created, changed and deleted with its file.
terraform {
  required_providers {
    restapi = {
      source  = "Mastercard/restapi"
      version = ">= 1.20.0"
    }
  }
}

variable "hub_url" {
  type = string
}

variable "hub_token" {
  type      = string
  sensitive = true
}

provider "restapi" {
  uri           = var.hub_url
  create_method = "PUT"
  headers = {
    Accept        = "application/json"
    Authorization = "Bearer ${var.hub_token}"
  }
}

locals {
  sources = [for name in fileset("${path.module}/flows", "**/*.hub.yaml") : file("${path.module}/flows/${name}")]
  # by the flow's name: a file may move and stays the same flow, a renamed flow is another one
  flows = { for source in local.sources : "${yamldecode(source).namespace}/${yamldecode(source).id}" => source }
}

resource "restapi_object" "flow" {
  for_each    = local.flows
  path        = "/api/v1/flows/${split("/", each.key)[0]}"
  create_path = "/api/v1/flows/${each.key}"
  data = jsonencode({
    namespace = split("/", each.key)[0]
    id        = split("/", each.key)[1]
    source    = each.value
  })
  # the hub adds it to what it was given
  ignore_changes_to = ["revision"]
}
